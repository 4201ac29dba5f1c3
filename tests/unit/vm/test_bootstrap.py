"""Trees by mmdebstrap: where packages come from, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import bootstrap, host


def fake_apt(folder: Path, output: str) -> str:
    script = folder / "apt-get"
    script.write_text(f"#!/bin/sh\nprintf '{output}'\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("output", "uri"),
    [
        ("", None),
        ("file:/mirror/debian/\\n", "file:/mirror/debian/"),
        ("file:/one/\\nfile:/two/\\n", "file:/one/"),
    ],
)
def test_the_archive_is_the_machines_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, uri: str | None
) -> None:
    apt = fake_apt(tmp_path, output)
    monkeypatch.setattr(host, "find", lambda _tool: apt)
    assert bootstrap.archive_uri() == uri


def test_no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find", lambda _tool: None)
    assert bootstrap.archive_uri() is None


def test_command_with_an_archive() -> None:
    argv = bootstrap.command("file:/mirror/", ["make"], "", (), as_root=True)
    assert argv[-4:-2] == [bootstrap.SUITE, "-"]
    assert argv[-2:] == [
        f"deb file:/mirror/ {bootstrap.SUITE} main",
        f"deb file:/mirror/ {bootstrap.BACKPORTS} main",
    ]
    assert "--mode=root" in argv


def test_command_without_one_leaves_the_choice_to_mmdebstrap() -> None:
    argv = bootstrap.command(None, [], "", (), as_root=False)
    assert argv[-2:] == [bootstrap.SUITE, "-"]
    assert "--mode=unshare" in argv
