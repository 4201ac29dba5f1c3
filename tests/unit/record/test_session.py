"""Recordings of several connections, accepted and recorded on the model kernel."""

from __future__ import annotations

import os
import random
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx.record.series import FileSeries
from pyzcrx.record.session import Session
from pyzcrx.record.stats import RecordStats
from pyzcrx.testing import ModelKernel, ModelListener, ModelSocket

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")
STREAMS = 5


class Bench:
    """A session of *streams* files in *folder*, and its listener as peers see it."""

    def __init__(self, folder: Path, streams: int, ring: pyzcrx.Ring, kernel: ModelKernel) -> None:
        self.ring = ring
        self.area = pyzcrx.Area.anonymous(1 << 18)
        self.listener: ModelListener = kernel.listen()
        self.ended: list[RecordStats] = []
        self.outputs = [FileSeries(folder / str(i)) for i in range(streams)]
        self.ifq = ring.register_ifq(self.area, rq_entries=64)
        self.session = Session(
            ring,
            self.ifq,
            socket.socket(fileno=os.dup(self.listener.fileno())),
            self.outputs,
            rcvbuf_bytes=1 << 16,
            ended=self.ended.append,
        )

    def sends(self, data: bytes, *, ends: bool = True) -> ModelSocket:
        """A peer connects and sends."""
        sock = self.listener.connect()
        for at in range(0, len(data), 4000):
            sock.send(data[at : at + 4000])
        if ends:
            sock.finish()
        return sock

    def settle(self) -> None:
        for _ in range(100):
            self.session.turn(0)

    def close(self) -> None:
        self.session.stop()
        self.ifq.audit()
        self.ring.close()
        self.session.close()
        self.area.close()


@contextmanager
def bench(folder: Path, streams: int) -> Iterator[Bench]:
    before = len(os.listdir("/proc/self/fd"))
    with ModelKernel() as kernel, pyzcrx.Ring() as ring:
        made = Bench(folder, streams, ring, kernel)
        try:
            yield made
        finally:
            made.close()
        assert kernel.breaches == []
    made.listener.close()
    assert len(os.listdir("/proc/self/fd")) == before


def stream(seed: int, size_bytes: int = 100_000) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def test_connections_go_to_files_in_their_order(tmp_path: Path) -> None:
    data = [stream(i, 10_000 * i) for i in range(STREAMS)]
    with bench(tmp_path, STREAMS) as b:
        for each in data:
            b.sends(each)
        assert not b.session.done
        b.settle()
        assert b.session.done
        assert b.session.whole
        assert b.session.receiving == 0
        found = b.session.streams()
    assert [(tmp_path / str(i)).read_bytes() for i in range(STREAMS)] == data
    assert [stats.synced_bytes for stats in found] == [len(each) for each in data]
    assert all(stats.whole and stats.error is None for stats in found)
    assert sorted(b.ended, key=lambda stats: stats.files) == found


def test_one_connection_too_many_is_refused(tmp_path: Path) -> None:
    with bench(tmp_path, 1) as b:
        b.sends(stream(1), ends=False)
        b.sends(b"too many")
        b.settle()
        assert b.session.receiving == 1
        assert not b.session.done
    assert (tmp_path / "0").read_bytes() == stream(1)


def test_stopped_halfway_what_arrived_is_on_disk(tmp_path: Path) -> None:
    with bench(tmp_path, 3) as b:
        b.sends(stream(1))
        b.sends(stream(2), ends=False)
        b.settle()
        assert not b.session.done
    assert not b.session.whole
    assert [each.error for each in b.session.streams()] == [
        None,
        "the recording was stopped before the stream's end",
        "no connection came for it",
    ]
    assert [each.synced_bytes for each in b.session.streams()] == [100_000, 100_000, 0]
    assert (tmp_path / "1").read_bytes() == stream(2)
    assert not (tmp_path / "2").exists()


def test_a_connection_that_breaks_is_not_whole(tmp_path: Path) -> None:
    with bench(tmp_path, 2) as b:
        sock = b.sends(stream(1), ends=False)
        b.sends(stream(2))
        sock.reset()
        b.settle()
        assert b.session.done
        assert not b.session.whole
        broken, fine = b.session.streams()
    assert fine.whole
    assert not broken.whole
    assert "EPIPE" in str(broken.error)
    assert (tmp_path / "0").read_bytes() == stream(1)[: broken.synced_bytes]


def test_a_file_that_fails_ends_its_own_connection_alone(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    try:
        with bench(tmp_path, 2) as b:
            b.sends(stream(1), ends=False)
            b.sends(stream(2, 60_000))
            b.settle()
            assert b.session.done
            full, fine = b.session.streams()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert fine.whole
    assert (full.whole, full.synced_bytes) == (False, 65_536)
    assert "raise ulimit -f" in str(full.error)
    assert (tmp_path / "0").read_bytes() == stream(1)[:65_536]


def test_a_socket_that_takes_no_request_frees_its_place(tmp_path: Path) -> None:
    with bench(tmp_path, 1) as b:
        receive = b.ifq.receive
        refused = 0

        def refuses_once(*args: object, **kwargs: object) -> object:
            nonlocal refused
            refused += 1
            if refused == 1:
                raise pyzcrx.KernelError(12, "receive")
            return receive(*args, **kwargs)  # type: ignore[arg-type]

        b.ifq.receive = refuses_once  # type: ignore[method-assign, assignment]
        b.sends(b"lost")
        b.sends(stream(3))
        b.settle()
        assert b.session.whole
    assert (tmp_path / "0").read_bytes() == stream(3)
