"""What arrived and was not read, against plain bytes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyzcrx
from pyzcrx import errors
from pyzcrx._lease import Account, Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.events import End, Failed, Limit

REQUEST: Any = object()
ROOM = 64
"""Bytes between the beginnings of two buffers."""


class Fed:
    """Chunks, and the bytes that they must have."""

    def __init__(self) -> None:
        self.account = Account()
        self.chunks = Chunks()
        self.model = b""
        self.fed = 0

    def feed(self, data: bytes) -> None:
        memory = bytearray(ROOM)
        memory[: len(data)] = data
        self.account.take(1)
        buffer = Buffer(self.account, Span(memory), 0, len(data), self.fed * ROOM, 1)
        self.fed += 1
        self.chunks.feed(buffer)
        self.model += data

    def takes(self, data: bytes | bytearray | memoryview) -> None:
        assert bytes(data) == self.model[: len(data)]
        self.model = self.model[len(data) :]

    def holds_what_it_must(self) -> None:
        assert self.chunks.nbytes == len(self.model)
        assert self.account.leased <= self.chunks.buffers + 1  # the rest of one


def fed(*pieces: bytes) -> Fed:
    found = Fed()
    for piece in pieces:
        found.feed(piece)
    return found


steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.binary(min_size=1, max_size=ROOM)),
        st.tuples(st.just("feed"), st.sampled_from([b"a", b"ab", b"aab", b"b", b"aaab"])),
        st.tuples(st.just("take"), st.integers(0, 200)),
        st.tuples(st.just("read"), st.integers(0, 200)),
        st.tuples(st.just("until"), st.sampled_from([b"a", b"ab", b"aab", b"abab", b"\0"])),
        st.tuples(st.just("into"), st.integers(0, 200)),
        st.tuples(st.just("next"), st.integers(0, 200)),
        st.tuples(st.just("spill"), st.none()),
        st.tuples(st.just("gather"), st.integers(0, 200)),
    ),
    max_size=40,
)


def do(found: Fed, step: str, value: Any) -> None:
    chunks, model = found.chunks, found.model
    if step == "feed":
        found.feed(value)
    elif step in ("take", "read"):
        found.takes(getattr(chunks, step)(min(value, len(model))))
    elif step == "until":
        view = chunks.take_until(value)
        if view is None:
            assert value not in model
        else:
            assert len(view) == model.index(value) + len(value)
            found.takes(view)
    elif step == "into":
        memory = bytearray(value)
        n = chunks.copy_into(memoryview(memory))
        assert n == min(value, len(model))
        found.takes(memory[:n])
    elif step == "next" and model:
        with chunks.next_chunk() as chunk:
            assert len(chunk) == chunk.nbytes == len(model)
            assert b"".join(chunk.views()) == bytes(chunk)
            found.takes(bytes(chunk.take(min(value, len(model)))))
            found.takes(bytes(chunk))
    elif step == "spill":
        chunks.spill()
        assert chunks.buffers == 0
    elif step == "gather":
        n = min(value, len(model))
        assert chunks.gather(n) == model[:n]


@given(steps)
def test_any_order_of_calls_gives_the_bytes_in_order(done: list[tuple[str, Any]]) -> None:
    found = Fed()
    for step, value in done:
        do(found, step, value)
        found.holds_what_it_must()
    found.takes(found.chunks.read(len(found.model)))
    found.holds_what_it_must()
    assert found.account.leased == 0


def test_one_buffer_is_taken_in_place_and_several_are_gathered_once() -> None:
    found = fed(b"head" + b"x" * 8, b"y" * 8)
    view = found.chunks.take(4)
    assert bytes(view) == b"head"
    assert (found.chunks.viewed_bytes, found.chunks.gathered_bytes) == (4, 0)
    found.chunks.take(16)
    assert (found.chunks.viewed_bytes, found.chunks.gathered_bytes) == (4, 16)
    assert found.account.leased == 1, "the view keeps its buffer"
    del view
    assert found.account.leased == 0


def test_a_buffer_goes_back_as_soon_as_it_was_read() -> None:
    found = fed(b"x" * 8, b"y" * 8)
    found.chunks.read(8)
    assert found.account.leased == 1
    found.chunks.read(1)
    found.chunks.copy_into(memoryview(bytearray(100)))
    assert found.account.leased == 0


def test_a_separator_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    real = re.compile

    class Counting:
        def __init__(self, pattern: bytes) -> None:
            self.pattern = real(pattern)

        def search(self, view: memoryview) -> re.Match[bytes] | None:
            nonlocal looked
            looked += len(view)
            return self.pattern.search(view)

    monkeypatch.setattr("pyzcrx._receive.chunks.re.compile", Counting)
    found = Fed()
    for _ in range(200):
        found.feed(b"x" * ROOM)
        assert found.chunks.find(b"\r\n") == -1
    assert looked == 200 * ROOM
    found.feed(b"\r")
    assert found.chunks.find(b"\r\n") == -1
    found.feed(b"\n")
    assert found.chunks.find(b"\r\n") == 200 * ROOM + 2


@pytest.mark.parametrize("separator", [b"", "\n", None, 1])
def test_what_is_no_separator(separator: Any) -> None:
    with pytest.raises(errors.BadArgument):
        Chunks().find(separator)


@pytest.mark.parametrize("n", [-1, 4])
def test_more_than_there_is_cannot_be_had(n: int) -> None:
    for call in (fed(b"abc").chunks.take, fed(b"abc").chunks.gather, fed(b"abc").chunks.read):
        with pytest.raises(errors.BadArgument):
            call(n)


def test_end_limit_and_failure() -> None:
    found = fed(b"abc")
    found.chunks.feed(Limit(REQUEST))
    assert found.chunks.nbytes == 3
    assert found.chunks.limited
    found.chunks.feed(End(REQUEST))
    assert not found.chunks.at_end, "three bytes are left"
    found.chunks.read(3)
    assert found.chunks.at_end
    cut = fed(b"abc")
    error = pyzcrx.PeerReset(104, "receive")
    cut.chunks.feed(Failed(REQUEST, error))
    cut.chunks.read(3)
    assert cut.chunks.failure is error
    assert not cut.chunks.at_end


def test_many_tiny_buffers_are_copied_out_of_the_area() -> None:
    found = Fed()
    found.chunks.most_buffers = 4
    for _ in range(100):
        found.feed(b"x")
        found.chunks.relieve()
        assert found.account.leased <= 4
    assert found.chunks.spilled_bytes > 90
    found.takes(found.chunks.read(100))


def test_clear_gives_everything_back() -> None:
    found = fed(b"abc", b"d")
    found.chunks.read(1)
    found.chunks.clear()
    assert (found.account.leased, found.chunks.nbytes) == (0, 0)
