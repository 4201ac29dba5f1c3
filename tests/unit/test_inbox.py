"""What came in and is handed out before Python looked at it: offered, and left by a store."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx._lease import Pieces
from pyzcrx._receive.chunk import Chunk
from pyzcrx._receive.chunks import Chunks
from pyzcrx._receive.events import Limit
from tests.unit.test_run_lease import counts
from tests.unit.test_turn import Leased

ENTRY = 100
"""Bytes of each."""
MOST = 160
"""Entries of the area."""


class Fed:
    """Chunks that turns fill, and the bytes that they must have."""

    def __init__(self) -> None:
        self.core = Leased()
        self.core.memory.view[: MOST * ENTRY] = bytes(i * 7 % 251 for i in range(MOST * ENTRY))
        self.chunks = Chunks()
        self.request = self.core.read(self.chunks)
        self.model = b""
        self.fed = 0

    def feed(self, entries: int) -> None:
        """A turn brings one run."""
        offs = [(self.fed + i) % MOST * ENTRY for i in range(entries)]
        self.fed += entries
        self.core.brought((self.request.token, offs))
        assert self.core.count()
        self.core.lease_runs([])
        self.model += b"".join(bytes(self.core.memory.view[at : at + ENTRY]) for at in offs)

    def leases(self) -> list[Any]:
        """What came in."""
        return list(self.chunks.incoming)

    def takes(self, data: bytes | bytearray | memoryview) -> None:
        assert bytes(data) == self.model[: len(data)]
        self.model = self.model[len(data) :]


def do(found: Fed, step: str, value: int) -> None:
    chunks, there = found.chunks, len(found.model)
    if step == "feed":
        found.feed(value % 8 + 1)
    elif step == "some":
        data = chunks.read_some(value)
        assert len(data) <= min(value, there)
        assert data or not min(value, there)
        found.takes(data)
    elif step == "fill":
        memory = bytearray(value)
        n = chunks.fill(memoryview(memory))
        assert n or not min(value, there)
        found.takes(memory[:n])
    elif step == "move":
        array = bytearray(b"before")
        n = chunks.move(array, value, value // 2)
        assert n <= value
        assert n < there or not there  # the last one stays
        assert array[:6] == b"before"
        assert len(array) == 6 + n
        found.takes(array[6:])
    elif step == "chunk" and there:
        with chunks.next_chunk() as chunk:
            found.takes(bytes(chunk))
            assert not chunks.has_bytes
    elif step == "read":
        found.takes(chunks.read(min(value, there)))
    elif step == "look":
        assert chunks.nbytes == there
    assert chunks.has_bytes == bool(found.model)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["feed", "feed", "some", "fill", "move", "chunk", "read", "look"]),
            st.integers(0, 900),
        ),
        max_size=18,
    )
)
def test_any_order_of_calls_gives_the_bytes_in_order(steps: list[tuple[str, int]]) -> None:
    found = Fed()
    for step, value in steps:
        do(found, step, value)
    while found.model:
        do(found, "some", 250)
    [account] = found.core.accounts
    assert counts(found.core) == (found.fed, 0, 0, 0, found.fed)
    assert sorted(account.returned()) == sorted(i % MOST * ENTRY for i in range(found.fed))
    assert account.forgotten == 0
    chunks = found.chunks
    assert chunks.gathered_bytes + chunks.viewed_bytes == found.fed * ENTRY


def test_entries_go_back_as_they_are_copied() -> None:
    found = Fed()
    found.feed(5)
    found.feed(1)
    [run, last] = found.leases()
    assert len(found.chunks.read_some(3 * ENTRY + 99)) == 3 * ENTRY
    assert (run.count, len(run), run.off) == (2, 2 * ENTRY, 3 * ENTRY)
    assert counts(found.core) == (3, 3, 3, 3, 3)
    assert len(found.chunks.read_some(3 * ENTRY)) == 3 * ENTRY
    assert run.released
    assert last.released
    assert counts(found.core) == (6, 0, 0, 0, 6)


def test_the_rest_of_a_run_becomes_buffers() -> None:
    found = Fed()
    found.feed(4)
    found.takes(found.chunks.read_some(ENTRY))
    chunk = found.chunks.next_chunk()
    assert [view.nbytes for view in chunk.views()] == [ENTRY] * 3
    found.takes(bytes(chunk))
    chunk.release()
    assert counts(found.core) == (4, 0, 0, 0, 4)


@pytest.mark.parametrize("how", ["bytes", "into", "chunk"])
def test_an_offer_that_is_not_taken_changes_nothing(how: str) -> None:
    """As after a signal handler that raised."""
    found = Fed()
    found.feed(3)
    chunks = found.chunks
    memory = bytearray(250)
    offers: dict[str, Any] = {
        "bytes": lambda: chunks._offer_bytes(250),
        "into": lambda: chunks._offer_into(memory),
        "chunk": lambda: chunks._offer_chunk(Chunk),
    }
    assert offers[how]()
    gc.collect()
    assert chunks._offered
    assert counts(found.core) == (0, 3, 3, 3, 0)
    found.takes(chunks.read_some(1000))
    assert not found.model
    assert not chunks._offered


def test_what_is_no_lease_is_for_python() -> None:
    found = Fed()
    found.feed(2)
    found.chunks.feed(Limit(found.request))
    chunk = found.chunks._offer_chunk(Chunk)
    assert len(chunk) == 2 * ENTRY  # what is before it
    assert len(found.chunks._offer_bytes(1000) or b"") == 2 * ENTRY
    assert found.chunks.nbytes == 2 * ENTRY
    assert found.chunks.limited
    assert found.chunks._offer_chunk(Chunk) is None
    assert found.chunks._offer_bytes(1000) is None
    assert found.chunks._offer_into(bytearray(1000)) == 0


def test_a_bytearray_that_cannot_grow_takes_nothing() -> None:
    found = Fed()
    found.feed(3)
    array = bytearray(b"before")
    with memoryview(array), pytest.raises(BufferError):
        found.chunks.move(array, 1000, 0)
    with pytest.raises(MemoryError):  # not by trying: sanitizers end a process for that
        found.chunks.move(array, 1000, 2**63 - 1)
    assert array == b"before"
    assert counts(found.core) == (0, 3, 3, 3, 0)
    assert found.chunks.move(array, 1000, -1) == 2 * ENTRY
    found.takes(array[6:])
    found.takes(found.chunks.read_some(1000))
    assert not found.model


def test_all_but_the_last_is_moved_from_before_an_event() -> None:
    found = Fed()
    found.feed(3)
    found.feed(2)
    found.chunks.feed(Limit(found.request))
    array = bytearray()
    assert found.chunks.move(array, 1000, ENTRY) == 4 * ENTRY
    found.takes(array)
    assert found.chunks.move(array, 1000, ENTRY) == 0
    found.takes(found.chunks.read_some(1000))
    assert found.chunks.move(array, 1000, ENTRY) == 0
    assert found.chunks.nbytes == 0
    assert found.chunks.limited


def test_what_cannot_be_read_here_is_for_python() -> None:
    found = Fed()
    found.feed(2)
    found.feed(1)
    found.core.accounts[0].orphaned = True
    assert found.chunks._offer_bytes(1000) is None


def test_bad_calls() -> None:
    chunks = Fed().chunks
    with pytest.raises(TypeError):
        chunks._offer_chunk(bytes)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        chunks._offer_bytes("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        chunks._offer_into(b"read-only")
    with pytest.raises(TypeError):
        chunks.move(b"", 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="becomes False"):
        chunks._offered = True
    with pytest.raises(ValueError, match="becomes False"):
        del chunks._offered
    chunks._offered = False
    assert chunks._offer_chunk(Pieces) is None


def test_what_was_offered_may_be_gone() -> None:
    found = Fed()
    found.feed(2)
    assert found.chunks._offer_bytes(1000)
    found.chunks.incoming.clear()
    with pytest.raises(ValueError, match="is gone"):
        found.chunks._offered = False
