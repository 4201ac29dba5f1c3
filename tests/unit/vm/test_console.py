"""The console is read by position: marks, verdicts, tails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm import console
from vm.console import Console


@pytest.fixture
def log() -> Iterator[Console]:
    log = Console()
    yield log
    log.close()


def write(log: Console, text: str) -> None:
    fd = os.open(f"/proc/self/fd/{log.fd}", os.O_WRONLY | os.O_APPEND)  # as QEMU does
    os.write(fd, text.encode())
    os.close(fd)


def never() -> bool:
    return False


def test_each_report_is_told_once(log: Console) -> None:
    write(log, "[1.0] fine\n")
    assert log.judge() == []
    write(log, "[2.0] BUG: something\n")
    assert log.judge() == ["[2.0] BUG: something"]
    assert log.judge() == []


def test_mark(log: Console) -> None:
    write(log, "[1.0] pyzcrx: mark 12\r\n")
    assert log.wait_for_mark(12, never)
    assert not log.wait_for_mark(1, lambda: True)


def test_a_mark_that_never_comes(log: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MARK_SECONDS", 0.05)
    write(log, "[1.0] pyzcrx: mark 1")  # not yet a whole line
    assert not log.wait_for_mark(1, never)


def test_tail_is_the_kernels_words(log: Console) -> None:
    write(log, "[1.0] one\r\n\r\n[2.0] pyzcrx: mark 1\r\n[3.0] three\r\n")
    assert log.tail() == ["[1.0] one", "[3.0] three"]
    assert log.tail(1) == ["[3.0] three"]


def test_restart_forgets(log: Console) -> None:
    write(log, "[1.0] BUG: under KVM\n")
    log.restart()
    write(log, "[1.0] fine\n")
    assert log.judge() == []
    assert log.tail() == ["[1.0] fine"]


def test_a_named_file_starts_empty(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of yesterday")
    log = Console(tmp_path / "log")
    write(log, "today\n")
    log.close()
    assert (tmp_path / "log").read_text() == "today\n"
