"""The recipe of the image: where packages come from, and what the build is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import host, image


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
    assert image.archive_uri() == uri


def test_no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find", lambda _tool: None)
    assert image.archive_uri() is None


def test_command_with_an_archive() -> None:
    argv = image.command("file:/mirror/", as_root=True)
    assert argv[-4:-2] == [image.SUITE, "-"]
    assert argv[-2:] == [
        f"deb file:/mirror/ {image.SUITE} main",
        f"deb file:/mirror/ {image.BACKPORTS} main",
    ]
    assert "--mode=root" in argv


def test_command_without_one_leaves_the_choice_to_mmdebstrap() -> None:
    argv = image.command(None, as_root=False)
    assert argv[-2:] == [image.SUITE, "-"]
    assert "--mode=unshare" in argv


def test_the_kernel_is_the_backports_whatever_its_version() -> None:
    (kernel,) = [name for name in image.PACKAGES if name.startswith("linux-image")]
    assert kernel == f"linux-image-amd64/{image.BACKPORTS}"


@pytest.mark.parametrize("part", ["PACKAGES", "UNWANTED"])
def test_another_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    before = image.key()
    monkeypatch.setattr(image, part, (*getattr(image, part), "more"))
    assert image.key() != before
