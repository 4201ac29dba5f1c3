"""The guest's serial console: what the kernel said, kept in memory or in a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from vm import splat

TAIL_LINES = 25
MARK_SECONDS = 60.0  # the console is slow, and a test may have said a lot


class Console:
    """QEMU writes it through ``fd``; we read it by position, so nothing can block."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self.fd = os.memfd_create("console")
        else:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._judged = 0  # how far judge() has read

    def text(self) -> str:
        size = os.fstat(self.fd).st_size
        return os.pread(self.fd, size, 0).decode(errors="replace")

    def tail(self, count: int = TAIL_LINES) -> list[str]:
        """The last lines, for an error."""
        lines = [line.rstrip() for line in self.text().splitlines() if line.strip()]
        return [line for line in lines if "pyzcrx: mark " not in line][-count:]

    def wait_for_mark(self, number: int, over: Callable[[], bool]) -> bool:
        """Until the agent's mark is on the console, and with it all that came before.

        False if it does not come in time, or not before ``over()``.
        """
        deadline = time.monotonic() + MARK_SECONDS
        wanted = f"pyzcrx: mark {number}\n"
        while wanted not in self.text().replace("\r", ""):
            if over() or time.monotonic() > deadline:
                return False
            time.sleep(0.01)  # a file that grows gives no event to wait for
        return True

    def judge(self) -> list[str]:
        """The kernel's complaints since the last call."""
        text = self.text()
        fresh, self._judged = text[self._judged :], len(text)
        return splat.find(fresh.splitlines())

    def restart(self) -> None:
        """Forget all, for another try at booting."""
        os.ftruncate(self.fd, 0)
        self._judged = 0

    def close(self) -> None:
        os.close(self.fd)
