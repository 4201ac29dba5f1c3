"""Debug mode: poison, and the lines that leased, released and forgot."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import pytest

import pyzcrx
from pyzcrx._kernel.memory import PAGE
from pyzcrx._receive.debug import POISON
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import filled, settled


@contextmanager
def debugged(kernel: ModelKernel) -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Ifq]]:
    with kernel, pyzcrx.Ring(debug=True) as ring, pyzcrx.Area.anonymous(64 * PAGE) as area:
        yield ring, ring.register_ifq(area)


def buffers(ring: pyzcrx.Ring) -> list[pyzcrx.Buffer]:
    return [e.buffer for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data)]


def test_released_memory_is_poisoned() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, 100).fileno())
        (buffer,) = buffers(ring)
        at = buffer.off
        assert bytes(ifq.area.view[at : at + 100]) == bytes(100)
        buffer.release()
        assert bytes(ifq.area.view[at : at + 100]) == bytes([POISON]) * 100
        assert ifq.area.view[at + 100] == 0
        settled(kernel, ring, ifq)


def test_the_lines_are_named() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        (buffer,) = buffers(ring)
        view = buffer.view()
        with pytest.raises(pyzcrx.BufferInUse, match=r"leased at .*test_debug\.py:\d+"):
            buffer.release()
        assert (ifq.holders()[0].leased_at or "").startswith(__file__)
        view.release()
        buffer.release()
        with pytest.raises(
            pyzcrx.errors.DoubleRelease, match=r"leased at .*; released at .*test_debug"
        ):
            buffer.release()


def test_a_forgotten_buffer_is_warned_of_and_comes_back() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        held = buffers(ring)
        with pytest.warns(
            pyzcrx.errors.LeakWarning, match=r"forgotten; leased at .*test_debug\.py"
        ):
            held.clear()
        settled(kernel, ring, ifq)


def test_what_is_out_at_close_is_warned_of() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        held = buffers(ring)
        with pytest.warns(pyzcrx.errors.LeakWarning, match=r"out while its ring closes; leased at"):
            ring.close()
        held[0].release()


def test_views_that_outlive_their_batch_are_warned_of_and_show_poison() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, 2 * PAGE).fileno())
        batch = ring.wait(0)
        (run,) = batch.runs()
        array = numpy.frombuffer(batch.view(run.request, 0), "u1")[5:]
        kept = batch.buffer(run.request, 1)
        with pytest.warns(
            pyzcrx.errors.LeakWarning, match=r"lives on .* taken at .*test_debug\.py"
        ):
            batch.release()
        assert set(array) == {POISON}
        assert bytes(kept) == bytes(PAGE)
        del array
        kept.release()
        ifq.receive(filled(kernel, PAGE).fileno())
        batch = ring.wait(0)
        (run,) = batch.runs()
        assert bytes(batch.view(run.request, 0)) == bytes(PAGE)
        settled(kernel, ring, ifq)


def test_a_view_of_a_batch_keeps_the_memory() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        batch = ring.wait(0)
        (run,) = batch.runs()
        view = batch.view(run.request, 0)
        with pytest.warns(pyzcrx.errors.LeakWarning):
            ring.close()
    del ring, ifq, batch, run
    gc.collect()
    assert len(bytes(view)) == PAGE


def test_the_environment_asks_for_it() -> None:
    code = (
        "from pyzcrx._receive.debug import wanted; print(wanted(None), wanted(False), wanted(True))"
    )
    for value, expected in (("1", "True False True"), ("0", "False False True"), ("", "False")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYZCRX_DEBUG": value},
        )
        assert done.stdout.startswith(expected)


def test_views_that_outlive_a_with_block_are_warned_of_at_close() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        ifq.receive(filled(kernel, PAGE).fileno())
        (buffer,) = buffers(ring)
        with buffer:
            view = buffer.view()
        with pytest.warns(
            pyzcrx.errors.LeakWarning,
            match=r"is viewed while its ring closes; .* released at .*test_debug",
        ):
            ring.close()
        assert bytes(view) == bytes(PAGE)


def test_an_array_that_keeps_the_address_of_a_batch_is_warned_of() -> None:
    kernel = ModelKernel()
    with debugged(kernel) as (ring, ifq):
        request = ifq.receive(filled(kernel, PAGE).fileno())
        batch = ring.wait(0)
        array = numpy.ndarray((PAGE,), "u1", batch.view(request, 0))
        with pytest.warns(pyzcrx.errors.LeakWarning, match="lives on"):
            batch.release()
        assert set(array) == {POISON}
