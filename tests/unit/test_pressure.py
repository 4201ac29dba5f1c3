"""Pressure: the area's marks, what each policy does there, and the advice on sizes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel.memory import PAGE
from pyzcrx._pressure.holders import Holder
from pyzcrx._pressure.policy import Policy
from pyzcrx.testing import ModelKernel
from tests.patience import until
from tests.unit.test_model import filled, settled


@contextmanager
def pressed(
    kernel: ModelKernel, pressure: pyzcrx.Pressure | Policy | None, *, pages: int = 64
) -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Ifq]]:
    with kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(pages * PAGE) as area:
        yield ring, ring.register_ifq(area, rq_entries=8, pressure=pressure)


def buffers(ring: pyzcrx.Ring) -> list[pyzcrx.Buffer]:
    return [e.buffer for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data)]


def test_copy_keeps_the_area_free_and_the_bytes() -> None:
    kernel = ModelKernel()
    # 16 of 64 are for the kernel, and what it has not been given yet by the refill queue.
    with pressed(kernel, pyzcrx.Pressure("copy", low_water_bytes=24 * PAGE)) as (ring, ifq):
        sock = kernel.socket()
        ifq.receive(sock.fileno())
        pages = [bytes([i]) * PAGE for i in range(200)]
        held = []
        for i in range(0, 200, 20):
            for page in pages[i : i + 20]:
                sock.send(page)
            held += buffers(ring)
        assert len(held) == 200
        assert [bytes(buffer) for buffer in held] == pages
        assert sum(not buffer.copied for buffer in held) == 40
        assert ifq.audit().in_buffers == 40
        assert ifq.stats().held_buffers == 200
        view = held[-1].view()[1:]
        with pytest.raises(pyzcrx.BufferInUse):
            held[-1].release()
        view.release()
        for buffer in held:
            buffer.release()
        with pytest.raises(pyzcrx.errors.DoubleRelease):
            held[-1].release()
        with pytest.raises(BufferError):
            held[-1].view()
        assert ifq._core.account.copies_bytes == ifq._core.account.copies == 0
        settled(kernel, ring, ifq)
        ifq.audit()


def test_copies_outlive_ring_and_area() -> None:
    kernel = ModelKernel()
    with pressed(kernel, pyzcrx.Pressure("copy", low_water_bytes=64 * PAGE)) as (ring, ifq):
        ifq.receive(filled(kernel, 60 * PAGE).fileno())
        held = buffers(ring)
        last = held[-1].view()
    assert held[-1].copied
    del held
    assert bytes(last) == bytes(PAGE)


def test_a_forgotten_copy_frees_its_memory_and_no_reference() -> None:
    kernel = ModelKernel()
    with pressed(kernel, pyzcrx.Pressure("copy", low_water_bytes=64 * PAGE)) as (ring, ifq):
        ifq.receive(filled(kernel, 60 * PAGE).fileno())
        held = buffers(ring)
        copies = ifq._core.account.copies
        assert copies > 0
        del held
        assert ifq._core.account.copies == ifq._core.account.copies_bytes == 0
        assert ifq._core.account.forgotten == 60 - copies
        settled(kernel, ring, ifq)
        ifq.audit()


def test_who_holds_most_is_not_read_on_at_the_limit_and_the_others_are() -> None:
    kernel = ModelKernel()
    limit = 100 * PAGE
    policy = pyzcrx.Pressure("copy", limit_bytes=limit, low_water_bytes=40 * PAGE)
    with pressed(kernel, policy) as (ring, ifq):
        greedy, modest = kernel.socket(), kernel.socket()
        hog, other = ifq.receive(greedy.fileno()), ifq.receive(modest.fileno())
        held: list[pyzcrx.Buffer] = []
        seen = 0
        for _ in range(300):
            greedy.send(bytes(PAGE))
            modest.send(bytes(PAGE))
            for event in ring.events(timeout=0):
                assert isinstance(event, pyzcrx.Data)
                if event.request is hog:
                    held.append(event.buffer)
                else:
                    seen += 1
                    event.buffer.release()
            assert ifq._core.account.copies_bytes <= limit
        assert seen == 300
        assert len(held) < 300
        assert ifq._core.waiting.paused[0] is hog
        assert other.received == 300 * PAGE
        for buffer in held:
            buffer.release()
        while hog.received < 300 * PAGE:
            for buffer in buffers(ring):
                buffer.release()
        # It may have been paused once more on the way, and is looked at once in a while.
        until(lambda: not (buffers(ring) or ifq._core.waiting.paused), "it is not read on")
        hog.cancel()
        other.cancel()
        assert all(isinstance(event, pyzcrx.Failed) for event in ring.events())
        settled(kernel, ring, ifq)


def test_a_paused_request_can_be_cancelled() -> None:
    kernel = ModelKernel()
    policy = pyzcrx.Pressure("copy", limit_bytes=4 * PAGE, low_water_bytes=40 * PAGE)
    with pressed(kernel, policy) as (ring, ifq):
        request = ifq.receive(filled(kernel, 60 * PAGE).fileno())
        held = buffers(ring) + buffers(ring)
        while not ifq._core.waiting.paused:
            held += buffers(ring)
        request.cancel()
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.Cancelled)
        assert held


def test_a_paused_request_fails_where_nobody_can_release() -> None:
    kernel = ModelKernel()
    policy = pyzcrx.Pressure("copy", limit_bytes=4 * PAGE, low_water_bytes=40 * PAGE)
    with pressed(kernel, policy) as (ring, ifq):
        sock = filled(kernel, 30 * PAGE)
        ifq.receive(sock.fileno())
        held = list(ring.events(timeout=0))
        for _ in range(5):
            held += ring.events(timeout=0)
        sock.send(bytes(PAGE))
        assert ifq._core.waiting.paused
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.AreaExhausted)


def test_a_socket_is_as_it_was_when_its_ring_is_closed_under_pressure() -> None:
    kernel = ModelKernel()
    policy = pyzcrx.Pressure("copy", limit_bytes=4 * PAGE, low_water_bytes=40 * PAGE)
    with pressed(kernel, policy) as (ring, ifq):
        sock = filled(kernel, 60 * PAGE)
        before = sock.rcvbuf_bytes
        ifq.receive(sock.fileno())
        held = buffers(ring) + buffers(ring)
        while not ifq._core.relief.narrowed:
            held += buffers(ring)
        assert sock.rcvbuf_bytes < before
        ring.close()
        assert sock.rcvbuf_bytes == before


def test_a_socket_that_a_limit_widened_is_narrowed_again() -> None:
    kernel = ModelKernel()
    policy = pyzcrx.Pressure("copy", limit_bytes=4 * PAGE, low_water_bytes=40 * PAGE)
    with pressed(kernel, policy) as (ring, ifq):
        sock = filled(kernel, 26 * PAGE)
        before = sock.rcvbuf_bytes
        request = ifq.receive(sock.fileno(), limit=30 * PAGE)
        held = buffers(ring)
        assert request in ifq._core.relief.narrowed
        narrow = sock.rcvbuf_bytes
        assert narrow < before
        sock.send(bytes(4 * PAGE))
        *data, limit = ring.events(timeout=0)
        assert isinstance(limit, pyzcrx.Limit)
        assert sock.rcvbuf_bytes == before
        request.resume(PAGE)
        ring.wait(0)
        assert sock.rcvbuf_bytes == narrow
        assert held
        assert data


def test_raise_names_the_holder_and_loses_nothing() -> None:
    kernel = ModelKernel()
    policy = pyzcrx.Pressure("raise", low_water_bytes=32 * PAGE)
    with pressed(kernel, policy) as (ring, ifq):
        sock = filled(kernel, 40 * PAGE)
        request = ifq.receive(sock.fileno())
        held: list[pyzcrx.Buffer] = []
        with pytest.raises(pyzcrx.errors.AreaHeld, match=f"fd {sock.fileno()}") as caught:
            held.extend(e.buffer for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data))
        assert "40 of 64 buffers" in str(caught.value)
        holder = caught.value.holders[0]
        assert isinstance(holder, Holder)
        assert holder.request is request
        with pytest.raises(pyzcrx.errors.AreaHeld):
            ring.wait(0)
        for buffer in held[:16]:
            buffer.release()
        sock.send(b"more")
        (more,) = buffers(ring)
        assert bytes(more) == b"more"


class Lending(ModelKernel):
    """Takes sends, and ends them when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self._sends: list[tuple[Any, int]] = []

    def _pz_prep_send(self, raw: Any, _fd: int, _msg: Any, _iov: Any, _n: int, token: int) -> int:
        self._sends.append((raw, token))
        return 0

    def fail_sends(self) -> None:
        for raw, token in self._sends:
            self._rings[raw].completions.post_last(token, -errno.EPIPE)


def test_raise_lets_a_turn_end_the_sends_that_hold_the_area() -> None:
    kernel = Lending()
    with pressed(kernel, pyzcrx.Pressure("raise", low_water_bytes=32 * PAGE)) as (ring, ifq):
        sock = filled(kernel, 40 * PAGE)
        request = ifq.receive(sock.fileno())
        held: list[pyzcrx.Buffer] = []
        while len(held) < 40:
            batch = ring.wait(0)
            held += [batch.buffer(request, i) for i in range(len(batch))]
        ring.send(sock.fileno(), held, zero_copy=False)
        with pytest.raises(pyzcrx.errors.AreaHeld) as caught:
            ring.wait(0)
        [most] = caught.value.by_request
        assert (most.request, most.buffers, most.size_bytes) == (request, 40, 40 * PAGE)
        assert ring.wait(0).events == []  # nothing has ended yet ...
        with pytest.raises(pyzcrx.errors.AreaHeld):
            ring.wait(0)  # ... and it is told again
        kernel.fail_sends()
        [failed] = ring.wait(0).events
        assert isinstance(failed, pyzcrx.Failed)
        assert all(buffer.released for buffer in held)
        ring.wait(0)
        settled(kernel, ring, ifq)


def test_without_a_policy_one_warning_before_starvation() -> None:
    kernel = ModelKernel()
    with pressed(kernel, None) as (ring, ifq):
        sock = filled(kernel, 60 * PAGE)
        ifq.receive(sock.fileno())
        with pytest.warns(
            pyzcrx.errors.PressureWarning, match="60 of 64 buffers .* are held"
        ) as told:
            held = buffers(ring)
        sock.send(bytes(PAGE))
        held += buffers(ring)  # a second warning would be an error
        assert len(held) == 61
        assert len(told) == 1
        assert told[0].filename == __file__  # not a line of ours


def test_grow_where_the_kernel_cannot_copies() -> None:
    kernel = ModelKernel()
    with pressed(kernel, pyzcrx.Pressure("grow", low_water_bytes=32 * PAGE)) as (ring, ifq):
        sock = filled(kernel, 40 * PAGE)
        ifq.receive(sock.fileno())
        with pytest.warns(pyzcrx.errors.FallbackWarning, match="it copies instead"):
            held = buffers(ring)
        sock.send(bytes(PAGE))
        held += buffers(ring)
        assert held[-1].copied


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "hope"},
        {"policy": "copy", "limit_bytes": 0},
        {"policy": "grow", "low_water_bytes": -1},
    ],
)
def test_wrong_wishes(wrong: dict[str, object]) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument):
        pyzcrx.Pressure(**wrong)  # type: ignore[arg-type]


def test_advice_grows_with_ring_mtu_and_buffer() -> None:
    usual = pyzcrx.area_advice(rx_ring_entries=512)
    assert usual.least_bytes == (512 + 128) * PAGE
    assert usual.low_water_bytes == (512 + 128 + 512) * PAGE
    assert usual.size_bytes >= 2 * (usual.low_water_bytes + (16 << 20))
    assert usual.size_bytes % (2 << 20) == 0
    jumbo = pyzcrx.area_advice(rx_ring_entries=512, mtu=9000)
    assert jumbo.least_bytes == (3 * 512 + 128) * PAGE
    large = pyzcrx.area_advice(rx_ring_entries=512, rx_buf_len=32 << 10)
    assert large.least_bytes == (512 + 128) * (32 << 10)
    huge = pyzcrx.area_advice(rx_ring_entries=1 << 20)
    assert huge.low_water_bytes == ((1 << 20) + 128 + 16384) * PAGE
    for wrong in ({"rx_ring_entries": -1}, {"mtu": -5}, {"rx_buf_len": -4096}, {"held_bytes": -1}):
        with pytest.raises(pyzcrx.errors.BadArgument):
            pyzcrx.area_advice(**wrong)
    assert pyzcrx.area_advice("lo", mtu=1500) == pyzcrx.area_advice()
    for unknown in ("nosuch0", 2_000_000_000):
        with pytest.raises(pyzcrx.errors.NoSuchInterface):
            pyzcrx.area_advice(unknown)


SECOND_NS = 1_000_000_000


@pytest.mark.parametrize("policy", ["copy", "grow", "raise", None])
def test_a_card_that_finds_no_buffer_while_nothing_arrives(policy: Policy | None) -> None:
    kernel = ModelKernel()
    with pressed(kernel, policy) as (ring, ifq):
        relief, grown = ifq._core.relief, []

        def grow() -> bool:
            grown.append(ring._core.columns.now_ns)
            return True

        relief._grow = grow  # type: ignore[method-assign]

        def starved(at_ns: int) -> None:
            ring._core.columns.now_ns = at_ns
            relief.card_starved()

        start = 100 * SECOND_NS
        for tenth in range(10):
            starved(start + tenth * SECOND_NS // 10)
        assert not grown
        if policy in ("copy", "grow"):
            starved(start + SECOND_NS)
            assert len(grown) == 1
            starved(start + SECOND_NS + 1)  # not with every notification
            assert len(grown) == 1
        else:
            with pytest.warns(
                pyzcrx.errors.PressureWarning, match="all 64 buffers .* wait for lost ones"
            ):
                starved(start + SECOND_NS)
            assert relief.warned


def test_a_card_that_is_short_now_and_then_is_left_alone() -> None:
    kernel = ModelKernel()
    with pressed(kernel, "grow") as (ring, ifq):
        ifq._core.relief._grow = lambda: pytest.fail("it grew")  # type: ignore[method-assign]
        for second in range(100):
            ring._core.columns.now_ns = second * 10 * SECOND_NS
            ifq._core.relief.card_starved()
            ifq._core.account.take(1)  # something arrived
