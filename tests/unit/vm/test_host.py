"""Missing tools are named with their package; long work is seen."""

from __future__ import annotations

import io

import pytest

from vm import host
from vm.errors import BuildFailed, ToolMissing


def test_a_tool_that_is_there() -> None:
    assert host.need("sh").endswith("/sh")


def test_a_tool_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SEARCH_PATH", "/nonexistent")
    with pytest.raises(ToolMissing, match=r"newuidmap .*: apt-get install uidmap$"):
        host.need("newuidmap")


def test_all_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SEARCH_PATH", "/nonexistent")
    message = r"^make, mke2fs, debugfs, x are not installed: apt-get install make e2fsprogs x$"
    with pytest.raises(ToolMissing, match=message):
        host.need("make", "mke2fs", "debugfs", "x")


def test_run() -> None:
    assert host.run(["sh", "-c", "echo out; echo err >&2"], what="test") == b"out\n"


def test_a_failed_step_shows_its_last_lines() -> None:
    script = "for i in $(seq 100); do echo line $i >&2; done; exit 3"
    with pytest.raises(BuildFailed, match=r"cooking failed \(sh exited with 3\)") as caught:
        host.run(["sh", "-c", script], what="cooking")
    assert caught.value.details[-1] == "line 100"
    assert len(caught.value.details) == host.LOG_LINES


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_one_line() -> None:
    out = Terminal()
    with host.progress("cooking", out):
        pass
    assert out.getvalue().startswith("\rvm: cooking ... 0 s")
    assert out.getvalue().count("\n") == 1


def test_progress_elsewhere_is_a_line_before_and_after() -> None:
    out = io.StringIO()
    with host.progress("cooking", out):
        assert out.getvalue() == "vm: cooking ...\n"
    assert out.getvalue() == "vm: cooking ...\nvm: cooking: 0 s\n"


def test_memory_file_is_whole() -> None:
    data = bytes(range(256)) * 100_000
    fd = host.memory_file("test", data)
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        assert file.read() == data
