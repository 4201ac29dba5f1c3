"""The pages' Python runs as it is written, on the model kernel, and reports a broken stream."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Self

import pytest

import pyzcrx
from pyzcrx import nic, supervisor
from pyzcrx.testing import ModelKernel, ModelSocket
from tests.pages import Block, blocks

PYTHON = [block for block in blocks() if block.language == "python"]
PROGRAMS = [b for b in PYTHON if b.how.split()[0] in ("program", "root", "file")]
FRAGMENTS = [block for block in PYTHON if block.how == "fragment"]
RECEIVES = ("ring.events(", "ring.batches(")
"""A block with one of these must handle Failed."""
STREAM = "ifq.stream("
REPORTS = (*RECEIVES, STREAM)
"""A block with one of these must report a stream that broke."""
SEGMENTS = [os.urandom(n) for n in (5000, 1, 12345)]
DATA = b"".join(SEGMENTS)


class Connection:
    """A socket of the model as a program gets it from accept()."""

    def __init__(self, sock: ModelSocket) -> None:
        self._sock = sock
        self.closed = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self.closed = True


class Listener:
    """What stands in for a listening socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def accept(self) -> tuple[Connection, tuple[str, int]]:
        return self._connection, ("192.0.2.2", 40000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def _prepared(*_: object, **__: object) -> Iterator[Any]:
    yield SimpleNamespace(ifindex=None, queue=None, queues=(None,))  # NODEV


def arrive(sock: ModelSocket, *, broken: bool) -> None:
    for segment in SEGMENTS:
        sock.send(segment)
    if broken:
        sock.error = errno.ECONNRESET
    else:
        sock.finish()


def execute(block: Block, names: dict[str, Any]) -> bytes:
    """Run it; gives what it consumed."""
    consumed = bytearray()
    code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
    exec(code, {"__name__": "__main__", "consume": consumed.extend, **names})
    return bytes(consumed)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelSocket]:
    """A model kernel, and one connection that a program's listener accepts."""
    with ModelKernel() as kernel:
        sock = kernel.socket()
        connection = Connection(sock)
        worker = SimpleNamespace(drop=lambda: None)
        monkeypatch.setattr(socket, "create_server", lambda *_, **__: Listener(connection))
        monkeypatch.setattr(pyzcrx, "drop_urgent", lambda _sock: None)
        monkeypatch.setattr(nic, "prepare", _prepared)
        monkeypatch.setattr(supervisor, "become_worker", lambda *_: worker)
        monkeypatch.setattr(sys, "argv", ["receive.py", "192.0.2.1", "eth0"])
        yield sock
        assert not kernel.breaches


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_receives_a_whole_stream(
    block: Block, machine: ModelSocket, capsys: pytest.CaptureFixture[str]
) -> None:
    arrive(machine, broken=False)
    consumed = execute(block, {})
    said = capsys.readouterr().out
    assert consumed == DATA or said.split()[0] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_reports_a_stream_that_broke(block: Block, machine: ModelSocket) -> None:
    arrive(machine, broken=True)
    with pytest.raises(pyzcrx.PeerReset):
        execute(block, {})


@contextmanager
def receiver(block: Block, *, broken: bool) -> Iterator[dict[str, Any]]:
    """The names that a fragment uses: those of a receiver whose stream has arrived."""
    if "ModelKernel" in block.text:
        yield {"pyzcrx": pyzcrx}
        return
    with ExitStack() as stack:
        kernel = stack.enter_context(ModelKernel())
        ring = stack.enter_context(pyzcrx.Ring())
        area = stack.enter_context(pyzcrx.Area.anonymous(1 << 20))
        sock = kernel.socket()
        names = {"pyzcrx": pyzcrx, "ring": ring, "area": area, "sock": sock}
        if "register_ifq(" not in block.text:
            names["ifq"] = ifq = ring.register_ifq(area)
            if STREAM not in block.text and "ifq.receive_into(" not in block.text:
                ifq.receive(sock.fileno())
        arrive(sock, broken=broken)
        yield names


@pytest.mark.parametrize("block", FRAGMENTS, ids=str)
def test_a_fragment_runs(block: Block) -> None:
    with receiver(block, broken=False) as names:
        consumed = execute(block, names)
    if "consume(" in block.text:
        assert consumed == DATA


@pytest.mark.parametrize(
    "block",
    [b for b in FRAGMENTS if "ModelKernel" not in b.text and any(r in b.text for r in REPORTS)],
    ids=str,
)
def test_a_fragment_reports_a_stream_that_broke(block: Block) -> None:
    with receiver(block, broken=True) as names, pytest.raises(pyzcrx.PeerReset):
        execute(block, names)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_all_python_is_python(block: Block) -> None:
    compile(block.text, block.page, "exec")
    if any(receives in block.text for receives in RECEIVES):
        assert "Failed" in block.text
