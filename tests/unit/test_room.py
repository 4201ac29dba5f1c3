"""How much of the area a stream that nobody reads takes, alone and among others."""

from __future__ import annotations

import pytest

import pyzcrx
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving

PAGE = 4096
PAGES = 256
AREA = PAGES * PAGE


def unread(ifq: pyzcrx.Ifq, ring: pyzcrx.Ring) -> int:
    """Buffers that are out once nothing arrives any more."""
    for _ in range(8):
        ring._delivery.collect(0)
    return ifq._core.account.leased


@pytest.mark.parametrize("streams", [1, 2, 3, 4, 8])
def test_a_stream_has_half_of_its_room_and_the_only_one_twice_that(streams: int) -> None:
    """The other half is for its socket."""
    kernel = ModelKernel()
    with receiving(kernel, pages=PAGES) as (ring, ifq):
        socks = [kernel.socket() for _ in range(streams)]
        opened = [ifq.stream(sock.fileno(), timeout=0) for sock in socks]
        for sock, stream in zip(socks, opened, strict=True):
            with pytest.raises(TimeoutError):
                stream.read1(1)  # it is armed now
            sock.send(bytes(AREA))
        share = max(AREA // 8 // streams, AREA // 16)
        held = unread(ifq, ring)
        # Those that were armed before the others came may hold what was theirs then.
        most = sum(max(AREA // 8 // n, AREA // 16) for n in range(1, streams + 1))
        assert share * streams <= held * PAGE <= min(most, AREA // 2)
        for stream in opened:
            stream.close()


def test_a_stream_that_is_left_alone_takes_more() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=PAGES) as (ring, ifq):
        socks = [kernel.socket() for _ in range(8)]
        first, *others = [ifq.stream(sock.fileno(), timeout=0) for sock in socks]
        for each in others:
            each.close()
        socks[0].send(bytes(AREA))
        assert len(first.read(1)) == 1
        assert AREA // 8 - PAGE <= unread(ifq, ring) * PAGE <= AREA // 8
        first.close()


def test_a_room_of_its_own_is_kept() -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=PAGES) as (ring, ifq):
        sock = kernel.socket()
        with ifq.stream(sock.fileno(), room_bytes=16 * PAGE) as stream:
            sock.send(bytes(AREA))
            assert len(stream.read(1)) == 1
            assert 7 * PAGE <= unread(ifq, ring) * PAGE <= 8 * PAGE
