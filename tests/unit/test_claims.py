"""Memory in use takes no second registration, whatever has it and however it is named."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import pyzcrx
from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._queue import claims
from pyzcrx._queue.area import Area
from pyzcrx.testing import ModelKernel
from pyzcrx.uapi import AREA_SHIFT, CtrlOp
from tests.unit.test_model import filled

SIZE = 16 * PAGE


@pytest.fixture
def kernel() -> Iterator[ModelKernel]:
    with ModelKernel() as kernel:
        yield kernel


def received(kernel: ModelKernel, ring: pyzcrx.Ring, area: Area, **options: Any) -> pyzcrx.Buffer:
    """A Buffer of a new registration of *area*."""
    ifq = ring.register_ifq(area, **options)
    ifq.receive(filled(kernel, 100).fileno())
    return next(e.buffer for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data))


def refusal(area: Area) -> str | None:
    """Why a ring of its own may not register *area*."""
    with pyzcrx.Ring() as ring:
        try:
            ring.register_ifq(area)
        except pyzcrx.errors.AreaInUse as error:
            text = str(error)
            assert "\n" not in text
            assert "; " in text
            return text
        return None


def is_free(area: Area) -> bool:
    return refusal(area) is None


# -- who has it -------------------------------------------------------------------

# What is kept of one batch or buffer, so that the memory must not be written.
HOLDERS: dict[str, Callable[[pyzcrx.Buffer], object]] = {
    "the Buffer": lambda buffer: buffer,
    "its view": lambda buffer: buffer.view(),
    "a slice": lambda buffer: buffer.view()[5:],
    "a numpy array": lambda buffer: np.frombuffer(buffer.view(), "u1")[5:],
    "an array that keeps the address alone": lambda buffer: np.ndarray((9,), "u1", buffer.view()),
    "a Data event": lambda buffer: pyzcrx.Data(None, buffer),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_outlives_its_ring_keeps_the_memory(name: str, kernel: ModelKernel) -> None:
    with Area.anonymous(SIZE) as area:
        with pyzcrx.Ring() as ring:
            held: Any = HOLDERS[name](received(kernel, ring, area))
            assert not is_free(area)
        gc.collect()
        assert "has 1 Buffers out whose ring was closed; release them" in (refusal(area) or "")
        assert area.token is None
        del held
        gc.collect()
        assert is_free(area)


def test_released_after_close_is_free(kernel: ModelKernel) -> None:
    with Area.anonymous(SIZE) as area:
        with pyzcrx.Ring() as ring:
            buffer = received(kernel, ring, area)
        assert not is_free(area)
        buffer.release()
        assert is_free(area)


def test_a_with_block_whose_view_lives_keeps_the_memory(kernel: ModelKernel) -> None:
    with Area.anonymous(SIZE) as area:
        with pyzcrx.Ring() as ring, received(kernel, ring, area) as buffer:
            view = buffer.view()
        assert buffer.released
        assert not is_free(area)
        del view
        assert is_free(area)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("take", [lambda view: view, lambda view: np.ndarray((9,), "u1", view)])
@pytest.mark.filterwarnings("ignore::pyzcrx.errors.LeakWarning")
def test_a_view_of_a_batch_keeps_the_memory(
    debug: bool, take: Callable[[memoryview], object], kernel: ModelKernel
) -> None:
    with Area.anonymous(SIZE) as area:
        with pyzcrx.Ring(debug=debug) as ring:
            ring.register_ifq(area).receive(filled(kernel, 100).fileno())
            batch = ring.wait(0)
            (run,) = batch.runs()
            view: object = take(batch.view(run.request, 0))
        assert "a batch.view() of a closed ring lives" in (refusal(area) or "")
        del view
        assert is_free(area)


def test_copies_keep_nothing(kernel: ModelKernel) -> None:
    with Area.anonymous(SIZE) as area:
        with pyzcrx.Ring() as ring:
            ifq = ring.register_ifq(area, pressure=pyzcrx.Pressure("copy"))
            ifq.receive(filled(kernel, 100).fileno())._greedy = True
            ifq._core.account.most = 0
            (buffer,) = (e.buffer for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data))
            assert buffer.copied
        assert is_free(area)
        buffer.release()


@pytest.mark.usefixtures("kernel")
def test_the_users_own_view_keeps_nothing() -> None:
    with Area.anonymous(SIZE) as area:
        view = area.view
        assert is_free(area)
        view[0] = 1


def test_what_nobody_took_keeps_nothing(kernel: ModelKernel) -> None:
    """Events and a batch that were left behind."""
    with Area.anonymous(SIZE) as area:
        for as_events in (True, False):
            with pyzcrx.Ring() as ring:
                ring.register_ifq(area).receive(filled(kernel, 3 * PAGE).fileno())
                if as_events:
                    next(ring.events(timeout=0))
                else:
                    ring.wait(0)
            assert is_free(area)


# -- by which name ------------------------------------------------------------------


def same_file(area: Area) -> Area:
    return Area(Mapping.of_file(area.fd, 0, area.size_bytes), fd=os.dup(area.fd))


def part_of_file(area: Area) -> Area:
    return Area(Mapping.of_file(area.fd, area.size_bytes // 2, area.size_bytes // 2))


def same_mapping(area: Area) -> Area:
    return Area(area._open())


NAMES: dict[str, Callable[[Area], Area]] = {
    "the same object": lambda area: area,
    "another mapping of the memfd": same_file,
    "a part of the memfd": part_of_file,
    "the same mapping": same_mapping,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("state", ["open ring", "leased", "first area closed, leased"])
def test_the_same_memory_by_another_name(name: str, state: str, kernel: ModelKernel) -> None:
    with ExitStack() as stack:
        area = stack.enter_context(Area.memfd(SIZE))
        other = stack.enter_context(NAMES[name](area))
        ring = stack.enter_context(pyzcrx.Ring())
        buffer = received(kernel, ring, area)
        if state != "open ring":
            ring.close()
        if state.startswith("first") and other._mapping is not area._mapping:
            area.close()
        assert not is_free(other)
        buffer.release()
        ring.close()
        assert is_free(other)


def test_other_memory_is_free(kernel: ModelKernel) -> None:
    with Area.memfd(SIZE) as one, Area.memfd(SIZE) as two, Area.anonymous(SIZE) as three:
        halves = [
            Area(Mapping.of_file(one.fd, at, SIZE // 2)) for at in (0, SIZE // 2)
        ]  # of one file, and apart
        with pyzcrx.Ring() as ring:
            buffer = received(kernel, ring, halves[0])
            for area in (halves[1], two, three):
                assert is_free(area)
        buffer.release()
        for half in halves:
            half.close()


def test_a_dmabuf_is_known_by_its_descriptor() -> None:
    class _Ring:
        closed = False

    with Area.memfd(SIZE) as memory:
        # Any file stands in for a dmabuf: only its identity counts.
        one = Area(Mapping.anonymous(SIZE), fd=os.dup(memory.fd), dmabuf=True)
        two = Area(Mapping.anonymous(SIZE), fd=os.dup(memory.fd), dmabuf=True)
        ring: Any = _Ring()
        with one._claimed(ring), pytest.raises(pyzcrx.errors.AreaInUse), two._claimed(ring):
            pass
        one.close()
        two.close()


# -- where it is refused ---------------------------------------------------------------


class GrowingKernel(ModelKernel):
    """One that adds areas, too; receives into the first alone."""

    result = 0

    def _pz_zcrx_ctrl(self, raw: Any, ctrl: Any) -> int:
        if ctrl.op != CtrlOp.ADD_AREA:
            return super()._pz_zcrx_ctrl(raw, ctrl)
        area = ffi.cast("struct pz_area_reg *", ctrl.payload[0])
        if area.flags:  # what interface_gone() asks by
            return -errno.EINVAL
        area.rq_area_token = 1 << AREA_SHIFT
        return self.result


def test_add_area_is_refused_too() -> None:
    with GrowingKernel() as kernel, ExitStack() as stack:
        used, first, second = (stack.enter_context(Area.anonymous(SIZE)) for _ in range(3))
        with pyzcrx.Ring() as ring:
            buffer = received(kernel, ring, used)
        with pyzcrx.Ring() as ring:
            ifq = ring.register_ifq(first)
            for area in (used, first):
                with pytest.raises(pyzcrx.errors.AreaInUse):
                    ifq.add_area(area)
            ifq.add_area(second)
            with pytest.raises(pyzcrx.errors.AreaInUse):
                ifq.add_area(second)
            buffer.release()
            ifq.add_area(used)
            assert ifq.areas == [first, second, used]
        assert all(is_free(area) for area in (used, first, second))


def test_add_area_of_memory_that_cannot_be_written() -> None:
    with GrowingKernel() as kernel, pyzcrx.Ring() as ring, Area.anonymous(SIZE) as area:
        ifq = ring.register_ifq(area)
        kernel.result = -errno.EFAULT
        with Area.anonymous(SIZE) as more:
            with pytest.raises(pyzcrx.errors.BadAreaMemory, match="read-only or not mapped"):
                ifq.add_area(more)
            kernel.result = 0
            ifq.add_area(more)


@pytest.mark.usefixtures("kernel")
def test_a_registration_that_failed_keeps_nothing() -> None:
    with Area.anonymous(SIZE) as area:
        with pyzcrx.Ring() as ring:
            with pytest.raises(pyzcrx.errors.NotSupported):
                ring.register_ifq(area, interface=1, rx_queue=0)
            assert is_free(area)
            ring.register_ifq(area)
            with pytest.raises(
                pyzcrx.errors.AreaInUse, match=r"another ifq, of <Ring .*; close that"
            ):
                ring.register_ifq(area)
        assert is_free(area)


@pytest.mark.usefixtures("kernel")
def test_a_ring_that_was_dropped_keeps_nothing() -> None:
    with Area.anonymous(SIZE) as area:
        ring = pyzcrx.Ring()
        ring.register_ifq(area)
        ring._core._finalizer.detach()  # the model has no descriptor to close
        del ring
        gc.collect()
        assert is_free(area)


@pytest.mark.usefixtures("kernel")
def test_of_threads_that_register_at_once_one_wins() -> None:
    found: list[str] = []
    barrier = threading.Barrier(4)

    def register() -> None:
        with pyzcrx.Ring() as ring:
            barrier.wait(30)
            try:
                ring.register_ifq(area)
                found.append("registered")
            except pyzcrx.errors.AreaInUse:
                found.append("refused")
            barrier.wait(30)

    with Area.anonymous(SIZE) as area:
        for _ in range(20):
            found.clear()
            threads = [threading.Thread(target=register) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert sorted(found) == ["refused"] * 3 + ["registered"]
        assert is_free(area)


@pytest.mark.usefixtures("kernel")
def test_claims_of_memory_that_is_gone_are_forgotten() -> None:
    for _ in range(20):
        with Area.anonymous(SIZE) as area:
            assert is_free(area)
    assert len(claims._claims) <= 1
