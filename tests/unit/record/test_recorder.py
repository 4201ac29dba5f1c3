"""Recordings on the model kernel, to files of this machine."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx.record.file import RecordFailed, RecordFile
from pyzcrx.record.recorder import Recorded, Recorder
from pyzcrx.testing import ModelKernel, ModelSocket

STREAMS = 8
pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


def stream(seed: int, size_bytes: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def sending(kernel: ModelKernel, data: bytes) -> ModelSocket:
    sock = kernel.socket()
    for at in range(0, len(data), 4096):
        sock.send(data[at : at + 4096])
    sock.finish()
    return sock


def record(kernel: ModelKernel, folder: Path, streams: list[bytes]) -> list[Recorded]:
    """Each stream to a file that its number names; the kernel's buffers are all back at the end."""
    done = []
    with kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(1 << 18) as area:
        ifq = ring.register_ifq(area, rq_entries=64)
        recorder = Recorder()
        for i, data in enumerate(streams):
            request = ifq.receive(sending(kernel, data).fileno())
            recorder.begin(request, RecordFile(folder / str(i)))
        while len(recorder):
            batch = ring.wait(1)
            recorder.take(batch)
            done += [each for event in batch.events if (each := recorder.ended(event))]
        ring.wait(0).release()
        ifq.flush()
        assert kernel.out == 0
        assert kernel.breaches == []
    return sorted(done, key=lambda each: int(each.file.path.name))


def test_each_stream_is_in_its_file(tmp_path: Path) -> None:
    streams = [stream(i) for i in range(STREAMS)]
    for each, data in zip(record(ModelKernel(), tmp_path, streams), streams, strict=True):
        assert each.error is None
        assert each.file.synced_bytes == len(data)
        assert each.file.path.read_bytes() == data


def test_a_file_that_fails_ends_its_own_stream_alone(tmp_path: Path) -> None:
    streams = [stream(0, 100_000), stream(1), stream(2, 100_000)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (131_072, before[1]))
    try:
        done = record(ModelKernel(), tmp_path, streams)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.error is None for each in done] == [True, False, True]
    assert isinstance(done[1].error, RecordFailed)
    assert done[1].error.right_bytes == 131_072
    for each, data in zip(done, streams, strict=True):
        assert each.file.path.read_bytes() == data[: each.file.synced_bytes]
        assert os.path.getsize(each.file.path) == each.file.synced_bytes
