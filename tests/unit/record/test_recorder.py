"""Recordings on the model kernel, to files of this machine."""

from __future__ import annotations

import errno
import os
import random
import resource
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx.record.file import RecordFailed
from pyzcrx.record.recorder import SYNC_BYTES, Recorded, Recorder
from pyzcrx.record.series import FileSeries
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


def record(
    kernel: ModelKernel,
    folder: Path,
    streams: list[bytes],
    sync_bytes: int = SYNC_BYTES,
    series: Callable[[Path], FileSeries] = FileSeries,
) -> list[Recorded]:
    """Each stream to a file that its number names; the kernel's buffers are all back at the end."""
    done = []
    with (
        kernel,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(1 << 18) as area,
        closing(Recorder(sync_bytes)) as recorder,
    ):
        ifq = ring.register_ifq(area, rq_entries=64)
        for i, data in enumerate(streams):
            request = ifq.receive(sending(kernel, data).fileno())
            recorder.begin(request, series(folder / str(i)))
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


class Meeting(FileSeries):
    """Its first write, or sync, waits for those of all others; *broken*, it fails then."""

    def __init__(self, path: Path, meets: threading.Barrier, at: str, *, broken: bool) -> None:
        super().__init__(path)
        self.direct = at == "flush"
        self._at = at
        self._meets: threading.Barrier | None = meets
        self._broken = broken

    def _meet(self, at: str) -> None:
        if at == self._at and self._meets is not None:
            self._meets.wait(60)
            self._meets = None
            if self._broken:
                raise RecordFailed(errno.EIO, "write")

    def flush(self) -> None:
        self._meet("flush")
        super().flush()

    def sync(self) -> int:
        self._meet("sync")
        return super().sync()


@pytest.mark.parametrize("at", ["flush", "sync"])
def test_files_that_wait_for_a_disk_wait_beside_each_other(tmp_path: Path, at: str) -> None:
    streams = [stream(i, 1000) for i in range(STREAMS)]
    meets = threading.Barrier(STREAMS)  # broken, and with it the test, if one waits alone

    def series(path: Path) -> Meeting:
        return Meeting(path, meets, at, broken=path.name == "3")

    done = record(ModelKernel(), tmp_path, streams, sync_bytes=1, series=series)
    assert [each.error is None for each in done] == [i != 3 for i in range(STREAMS)]
    for i, (each, data) in enumerate(zip(done, streams, strict=True)):
        if i != 3:
            assert each.file.path.read_bytes() == data


def test_what_came_is_on_disk_every_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a disk that fails only then costs no more than that."""
    calls = 0

    def fails_late(_fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # the first is of the empty file
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", fails_late)
    data = stream(7)
    [done] = record(ModelKernel(cq_entries=4), tmp_path, [data], sync_bytes=16_384)
    assert isinstance(done.error, RecordFailed)
    assert done.error.right_bytes == done.file.synced_bytes == 3 * 16_384
    assert done.file.path.read_bytes() == data[: 3 * 16_384]


def test_what_is_abandoned_is_on_disk_as_far_as_it_came(tmp_path: Path) -> None:
    with (
        ModelKernel() as kernel,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(1 << 18) as area,
        closing(Recorder()) as recorder,
    ):
        ifq = ring.register_ifq(area, rq_entries=64)
        sock = kernel.socket()
        request = ifq.receive(sock.fileno())
        recorder.begin(request, FileSeries(tmp_path / "out"))
        sock.send(b"x" * 5000)
        while not request.received:
            recorder.take(ring.wait(1))
        why = pyzcrx.ZcrxError("no more")
        [done] = recorder.abandon(why)
        assert (done.error, done.file.synced_bytes, len(recorder)) == (why, 5000, 0)
        assert (tmp_path / "out").read_bytes() == b"x" * 5000
