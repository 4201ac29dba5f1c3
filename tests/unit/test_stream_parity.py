"""A stream beside socket.makefile(): the same calls on the same bytes, the same outcome."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx._kernel.memory import PAGE
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving

LINES = b"one\ntwo\n\n" + b"x" * 5000 + b"\nlast"

CASES: dict[str, Callable[[Any], object]] = {
    "read": lambda f: f.read(),
    "read None": lambda f: f.read(None),
    "read -1": lambda f: f.read(-1),
    "read 0": lambda f: f.read(0),
    "read n": lambda f: [f.read(7), f.read(4), f.read(9000), f.read(1)],
    "read float": lambda f: f.read(1.5),
    "read str": lambda f: f.read("1"),
    "read -2": lambda f: f.read(-2),
    "readline": lambda f: [f.readline() for _ in range(6)],
    "readline size": lambda f: [f.readline(2) for _ in range(6)],
    "readline 0": lambda f: f.readline(0),
    "readlines": lambda f: f.readlines(),
    "readlines None": lambda f: f.readlines(None),
    "mixed": lambda f: [f.readline(), f.read(2), f.readline(), f.read()],
    "readinto": lambda f: [bytes(memory[: f.readinto(memory)]) for memory in [bytearray(4)]],
    "readinto nothing": lambda f: f.readinto(bytearray()),
    "readinto bytes": lambda f: f.readinto(b"1234"),
    "readinto after the end": lambda f: [f.read(), f.readinto(bytearray(4))],
    "read1 0": lambda f: f.read1(0),
    "read1 at the end": lambda f: [f.read(), f.read1(), f.read1(5), f.readline(), f.read()],
    "flags": lambda f: (f.readable(), f.writable(), f.seekable(), f.closed, f.isatty()),
    "seek": lambda f: f.seek(0),
    "tell": lambda f: f.tell(),
    "truncate": lambda f: f.truncate(),
    "write": lambda f: f.write(b"x"),
    "writelines": lambda f: f.writelines([b"x"]),
    "closed": lambda f: [f.close(), f.close(), f.closed],
    "read closed": lambda f: [f.close(), f.read(1)],
    "readline closed": lambda f: [f.close(), f.readline()],
    "with closed": lambda f: [f.close(), f.__enter__()],
    "flush": lambda f: f.flush(),
    "text": lambda f: io.TextIOWrapper(io.BufferedReader(f)).readlines(),
    "lines": lambda f: list(io.BufferedReader(f)),
    "buffered": lambda f: [io.BufferedReader(f, 16).peek(3)[:3], f.closed],
}


def outcome(call: Callable[[], object]) -> object:
    """What it gives, or which builtin error it raises."""
    try:
        return call()
    except Exception as error:
        for kind in (io.UnsupportedOperation, ValueError, TypeError, OSError):
            if isinstance(error, kind):
                # BadArgument is a ValueError where builtin readers raise TypeError.
                return "refused" if kind in (ValueError, TypeError) else kind
        raise


def of_a_socket(data: bytes, use: Callable[[Any], object]) -> object:
    """*use* of the file that the standard library makes of a socket."""
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        return outcome(lambda: use(ours.makefile("rb")))


def of_a_stream(data: bytes, use: Callable[[Any], object], size: int = 1000) -> object:
    kernel = ModelKernel()
    with receiving(kernel) as (_, ifq):
        sock = kernel.socket()
        for at in range(0, len(data), size):
            sock.send(data[at : at + size])
        sock.finish()
        with ifq.stream(sock.fileno()) as stream:
            return outcome(lambda: use(stream))


@pytest.mark.parametrize("data", [b"", LINES], ids=["empty", "lines"])
@pytest.mark.parametrize("name", CASES)
def test_the_same_as_a_file_of_a_socket(name: str, data: bytes) -> None:
    assert of_a_stream(data, CASES[name]) == of_a_socket(data, CASES[name])


Call = tuple[str, int]
calls = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readinto"]), st.integers(0, 2 * PAGE)),
    max_size=20,
)


def full(file: Any, n: int) -> bytes:
    """As BufferedReader does it, which fills its memory; a stream gives what is there."""
    memory = bytearray(n)
    view, done = memoryview(memory), 0
    while done < n and (got := file.readinto(view[done:])):
        done += got
    return bytes(memory[:done])


@given(st.binary(max_size=5 * PAGE), st.integers(1, 3000), calls)
def test_any_calls_give_what_a_file_of_a_socket_gives(
    data: bytes, size: int, made: list[Call]
) -> None:
    def use(file: Any) -> object:
        found = []
        for name, n in made:
            found.append(full(file, n) if name == "readinto" else getattr(file, name)(n))
        return found

    assert of_a_stream(data, use, size) == of_a_socket(data, use)
