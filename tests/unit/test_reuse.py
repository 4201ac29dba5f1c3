"""Leases that died are used again: nothing of the one before is left."""

from __future__ import annotations

import gc
import weakref

import pytest

import pyzcrx
from pyzcrx._lease import Account, Lease, Span
from pyzcrx.errors import BufferInUse, DoubleRelease
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import receiving, settled

MORE_THAN_ARE_KEPT = 100


def received(ring: pyzcrx.Ring, count: int) -> list[pyzcrx.Buffer]:
    """That many Buffers, by events."""
    buffers: list[pyzcrx.Buffer] = []
    while len(buffers) < count:
        buffers += [e.buffer for e in ring.events(0) if isinstance(e, pyzcrx.Data)]
    return buffers


@pytest.mark.parametrize("count", [1, 2, MORE_THAN_ARE_KEPT])
def test_nothing_is_left_of_the_one_before(count: int) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=256, rq_entries=256) as (ring, ifq):
        sock = kernel.socket()
        ifq.receive(sock.fileno())
        for turn in range(3):
            texts = [f"{turn}:{i:3}".encode() for i in range(count)]
            for text in texts:
                sock.send(text)
            buffers = received(ring, count)
            assert [bytes(each.view()) for each in buffers] == texts
            assert len({each.off for each in buffers}) == count
            assert all(map(gc.is_tracked, buffers))
            refs = [weakref.ref(each) for each in buffers]
            view = buffers[0].view()
            with pytest.raises(BufferInUse):
                buffers[0].release()
            view.release()
            while len(buffers) > count // 2:  # the others are forgotten, and come back all the same
                released = buffers.pop()
                released.release()
                with pytest.raises(DoubleRelease):
                    released.release()
            del released
            buffers.clear()
            assert all(each() is None for each in refs)
            settled(kernel, ring, ifq)


def test_one_of_another_type_is_made_anew() -> None:
    """It may have more than a lease has, a dict for instance."""

    class Named(Lease):
        name: str

    account, memory = Account(), Span(bytearray(16))
    for name in ("one", "two"):
        named = Named(account, memory, 0, 16, 0)
        assert not hasattr(named, "name")
        named.name = name
        del named
