"""Network namespaces of the tests. Each is removed here, and only without a TCP socket in it.

A socket that no process has (an orphan) waits until its FIN is acknowledged. It keeps its
namespace alive after ``ip netns del`` has removed the name: no ``ss`` shows it there, and the
orphan count, which is machine-wide, makes another test fail minutes later.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.patience import PATIENCE_S, until


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A network namespace while the block lasts."""
    _ip("netns", "add", name)
    try:
        yield name
    finally:
        remove(name)


def remove(name: str, *, patience_s: float = PATIENCE_S) -> None:
    """Remove the namespace. Fails, after removing it, if a TCP socket stays in it."""
    try:
        until(lambda: not tcp_sockets(_sockstat(name)), lambda: _left(name), patience_s=patience_s)
    finally:
        _ip("netns", "del", name)


def tcp_sockets(sockstat: str) -> int:
    """The TCP sockets of a namespace, orphans included, by its sockstat and sockstat6.

    Not those in TIME_WAIT: the kernel purges them with the namespace.
    """
    return sum(map(int, re.findall(r"^TCP6?: inuse (\d+)", sockstat, re.MULTILINE)))


def _sockstat(name: str) -> str:
    files = ("/proc/net/sockstat", "/proc/net/sockstat6")
    return _ip("netns", "exec", name, "cat", *files)


def _left(name: str) -> str:
    sockets = _ip("netns", "exec", name, "ss", "-tanop")
    return f"TCP sockets stay in the namespace {name}\n{_sockstat(name)}{sockets}"


def _ip(*argv: str) -> str:
    return subprocess.run(("ip", *argv), check=True, capture_output=True, text=True).stdout
