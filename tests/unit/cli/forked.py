"""A command, many times: each in a fork of one process that has imported it.

``python forked.py MODULE NAME``; a case a line on standard input, as JSON: [arguments, standard
output]. A result a line: [status, what it wrote, what it said]. A fork whose output is no ordinary
file ends as any Python process does. The resolver knows nothing but addresses.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

PATIENCE_S = 120
WRITABLE = "file"
FULL = "full"
LEFT = "left"
CLOSED = "closed"


resolve: Any = socket.getaddrinfo


def without_names(*args: Any, **kwargs: Any) -> Any:
    if not kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return resolve(*args, **kwargs)


def output(kind: str, file: int) -> None:
    """Make descriptor 1 what the case wants."""
    if kind == CLOSED:
        os.close(1)
    elif kind == LEFT:
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        os.close(writer)
    else:
        fd = os.open("/dev/full", os.O_WRONLY) if kind == FULL else file
        os.dup2(fd, 1)


def text(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read().decode(errors="replace")


def status(pid: int) -> int | str:
    fd = os.pidfd_open(pid)
    if not select.select([fd], [], [], PATIENCE_S)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "hung" if code == -signal.SIGKILL else code


def child() -> str:
    """In a fork, ready to run its case: the kind of its output. '' once all have been run."""
    for line in sys.stdin:
        arguments, kind = json.loads(line)
        out, err = (os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR) for _ in "oe")
        if not (pid := os.fork()):
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            output(kind, out)
            os.dup2(err, 2)
            sys.argv = [sys.argv[2], *arguments]
            return str(kind)
        print(json.dumps([status(pid), text(out), text(err)]), flush=True)
        os.close(out)
        os.close(err)
    return ""


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[3]))  # for vm; pyzcrx is the installed one
    command = importlib.import_module(sys.argv[1]).main
    importlib.import_module("pyzcrx.nic.setup")  # what commands import where they use it
    socket.getaddrinfo = without_names
    gc.freeze()
    kind = child()
    try:
        if kind:
            command(prog_name=sys.argv[0])
    except BaseException as end:
        if kind != WRITABLE:
            raise
        # Sooner than Python ends, which takes most of the time.
        if not isinstance(end, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 1)
