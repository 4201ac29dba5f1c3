"""The process that has imported pyzcrx's commands, and forks for each that is wanted.

Run as a script by ``tests.guest.program``: ``starter.py FD``, a socket whose messages are
``[argv, environment, folder]`` as JSON with four descriptors: the standard streams, and a
socket for what becomes of the command. To that go its pid and, once it has ended, its
status as ``os.waitpid()`` has it, four bytes each.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import distribution

MESSAGE_BYTES = 1 << 16
LAZY = ("pyzcrx.nic.plan", "pyzcrx.nic.read", "pyzcrx.nic.restore", "pyzcrx.nic.setup")
"""Imported by commands when they need them; dear all the same."""

Entry = Callable[[], int | None]


def commands() -> dict[str, Entry]:
    """What the installed scripts call, by their names."""
    for name in LAZY:
        import_module(name)
    scripts = distribution("pyzcrx").entry_points.select(group="console_scripts")
    return {script.name: script.load() for script in scripts}


def watch(started: int, told: socket.socket) -> None:
    """Tell the end of the command, in a process of its own that does nothing else."""
    told.send(struct.pack("i", started))
    told.send(struct.pack("i", os.waitpid(started, 0)[1]))
    os._exit(0)


def serve(requests: socket.socket) -> Entry:
    """Returns in each command's process alone: what that is to call."""
    entries = commands()
    while True:
        message, fds, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 4)
        if not message:
            os._exit(0)
        if not os.fork():
            break
        for fd in fds:
            os.close(fd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    told = socket.socket(fileno=fds.pop())
    if started := os.fork():
        for fd in (0, 1, 2, *fds):
            os.close(fd)
        watch(started, told)
    told.close()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    sys.argv, environment, folder = json.loads(message)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    return entries[sys.argv[0]]


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the watchers are nobody's business
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1])))())
