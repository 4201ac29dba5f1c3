"""Where the bytes of a send lie: stretches, cuts, and what is held for how long."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx._kernel._ffi import ffi
from pyzcrx._lease import Account, Iovec, Lease, Span
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.chunk import Chunk

MEMORY = bytearray(range(256))


def bytes_of(iovec: Iovec, begin: int, most: int) -> tuple[bytes, int]:
    """What a cut leads to, and in how many entries, also after a look at another one."""
    address, n, size_bytes = iovec.cut(begin, most)
    iovec.reach(0, 1)
    iovec.reach(begin + 1, most)
    entries = ffi.cast("struct pz_iov *", address)
    data = b"".join(
        bytes(ffi.buffer(ffi.cast("char *", entries[i].base), entries[i].len)) for i in range(n)
    )
    assert len(data) == size_bytes == iovec.reach(begin, most)
    return data, n


PIECES = st.lists(
    st.tuples(st.integers(0, 256), st.integers(0, 64)).map(lambda cut: (cut[0], sum(cut))),
    min_size=1,
    max_size=150,
)


@given(pieces=PIECES, begins=st.lists(st.integers(0, 3000), min_size=1), most=st.integers(1, 200))
def test_every_cut_leads_to_the_bytes_behind_its_begin(
    pieces: list[tuple[int, int]], begins: list[int], most: int
) -> None:
    span = Span(MEMORY)
    views = tuple(memoryview(span)[start:stop] for start, stop in pieces)
    data = b"".join(views)
    iovec = Iovec(views)
    assert iovec.size_bytes == len(data)
    for begin in begins:  # a cut ends the one before it
        found, n = bytes_of(iovec, begin, most)
        assert data[begin:].startswith(found)
        assert n <= most
        if most >= len(pieces):
            assert found == data[begin:]
    assert bytes_of(iovec, 0, 1000)[0] == data


def test_neighbours_are_one_stretch() -> None:
    view = memoryview(Span(MEMORY))
    assert Iovec((view[:10], view[10:10], view[10:30], view[40:50])).stretches == 2
    assert Iovec((view[10:20], view[:10])).stretches == 2
    # Nothing at all lies between them, and is no neighbour of either.
    assert bytes_of(Iovec((view[:10], view[5:5], view[5:10])), 0, 9)[0] == bytes(
        [*range(10), *range(5, 10)]
    )
    assert Iovec((b"", b"")).stretches == 0
    assert Iovec(()).cut(0, 1)[1:] == (0, 0)


@pytest.mark.parametrize("begin", [10, 11, 1 << 63])
def test_nothing_is_behind_the_end(begin: int) -> None:
    iovec = Iovec((b"0123456789",))
    assert iovec.cut(begin, 5)[1:] == (0, 0)
    assert iovec.reach(begin, 5) == 0
    assert bytes_of(iovec, 3, 5)[0] == b"3456789"


def leased(n: int = 1) -> tuple[Account, Span, list[Buffer]]:
    account, span = Account(), Span(MEMORY)
    account.take(n)
    return account, span, [Buffer(account, span, 16 * i, 16, i) for i in range(n)]


def test_what_lasts_and_what_may_change() -> None:
    _, span, [buffer] = leased()
    lasting = (b"bytes", memoryview(b"bytes"), buffer, buffer.view(), buffer.view()[1:3])
    changing = (bytearray(3), memoryview(bytearray(3)), span, memoryview(span), array.array("b"))
    for piece in lasting:
        assert Iovec((piece,)).lasting, piece
    for other in changing:
        assert not Iovec((b"bytes", other)).lasting, other


def test_leases_are_held_until_they_are_let_go_of() -> None:
    account, _, buffers = leased(3)
    chunk = Chunk([buffers[2]], 16)
    iovec = Iovec((*buffers[:2], chunk, b"bytes"))
    assert [buffer.exports for buffer in buffers] == [1, 1, 1]
    buffers[0]._let_go()
    assert account.returned() == []
    for _ in range(2):
        iovec.let_go()
        assert sorted(account.returned()) == [0, 1, 2]
    assert all(buffer.released for buffer in buffers)


def test_the_end_gives_nothing_back_but_the_views() -> None:
    account, _, [buffer] = leased()
    iovec = Iovec((buffer,))
    iovec.end()
    iovec.end()
    assert (buffer.exports, buffer.released) == (0, False)
    buffer.release()
    assert account.returned() == [0]


def test_forgotten_it_holds_nothing() -> None:
    _, _, [buffer] = leased()
    iovec = Iovec((buffer,))
    del iovec
    assert buffer.exports == 0


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ((b"good", "text"), TypeError),
        ((b"good", 5), TypeError),
        ((b"good", None), TypeError),
        ((memoryview(b"0123")[::2],), ValueError),
        ([b"a list"], TypeError),
    ],
)
def test_what_cannot_be_sent(pieces: Any, error: type[Exception]) -> None:
    _, _, [buffer] = leased()
    with pytest.raises(error):
        Iovec((buffer, *pieces) if isinstance(pieces, tuple) else pieces)
    assert buffer.exports == 0


def test_a_released_buffer_cannot_be_sent() -> None:
    _, _, buffers = leased(2)
    buffers[1].release()
    with pytest.raises(BufferError):
        Iovec(tuple(buffers))
    assert buffers[0].exports == 0


class _Views:
    def __init__(self, views: Any) -> None:
        self._views = views

    def views(self) -> Any:
        if isinstance(self._views, Exception):
            raise self._views
        return self._views


@pytest.mark.parametrize(
    ("views", "error"), [((b"a tuple",), TypeError), ([1], TypeError), (KeyError("x"), KeyError)]
)
def test_views_that_are_none(views: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Iovec((_Views(views),))


def test_lies_in() -> None:
    span = Span(MEMORY)
    iovec = Iovec((memoryview(span)[10:20],))
    at = span._address
    assert iovec.lies_in(at, at + 256)
    assert iovec.lies_in(at + 10, at + 11)
    assert not iovec.lies_in(at, at + 10)
    assert not iovec.lies_in(at + 11, at + 256)


def test_it_is_a_lease_by_its_type() -> None:
    account, span = Account(), Span(MEMORY)
    account.take(1)
    assert Iovec((Lease(account, span, 0, 8, 0),)).lasting
