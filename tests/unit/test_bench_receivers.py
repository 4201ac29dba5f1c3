"""The receivers that ``zcrx-bench`` compares, as far as the kernel in memory can feed them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, cast

import pytest

from pyzcrx.bench.gate import Gate
from pyzcrx.bench.job import ReceiveJob
from pyzcrx.bench.meter import Meter
from pyzcrx.bench.receivers import zcrx
from pyzcrx.testing import ModelKernel
from pyzcrx.testing.sockets import ModelSocket

SIZES = (1, 4096, 50_000)
"""Bytes of each connection: they end one after the other."""


@dataclasses.dataclass
class Fed:
    """A gate whose connections have all of their bytes, and the end, from the start."""

    job: ReceiveJob
    meter: Meter
    streams: list[ModelSocket]
    read: bool
    got: Counter[int] = dataclasses.field(default_factory=Counter)

    def guard(self) -> None:
        """There is no listener."""

    def open(self) -> list[ModelSocket]:
        self.meter.start()
        return self.streams

    def take(self, view: memoryview, stream: ModelSocket) -> None:
        self.got[self.streams.index(stream)] += len(view)

    @property
    def consume(self) -> Any:
        return self.take if self.read else None


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES[2:], SIZES, SIZES[::-1]])
def test_chunks_takes_all_of_every_connection(sizes: tuple[int, ...], read: bool) -> None:
    with ModelKernel(takes=64) as kernel:
        streams = [kernel.socket() for _ in sizes]
        for stream, n in zip(streams, sizes, strict=True):
            stream.send(b"x" * n)
            stream.finish()
        job = ReceiveJob("chunks", "::1", 0, connections=len(sizes), area_bytes=1 << 20)
        gate = Fed(job, Meter(), streams, read)
        zcrx.chunks(cast("Gate", gate))
        assert kernel.breaches == []
    assert gate.meter.figures["bytes"] == sum(sizes)
    assert gate.got == (dict(enumerate(sizes)) if read else {})
