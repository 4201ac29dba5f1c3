"""The library on a kernel that has NODEV: buffers, batches, ends, bad sockets, leaks."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import pytest

import pyzcrx
from pyzcrx.probe import Presence
from pyzcrx.uapi import OFFSET_MASK
from tests.guest.card import CARD, connect, register
from tests.guest.echo import send_all
from tests.leaks import nothing_leaks
from tests.patience import START_S

MIB = 1 << 20


@contextmanager
def connected(rcvbuf_bytes: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server((CARD.server, 0)) as listener:
        if rcvbuf_bytes:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf_bytes)
        client = connect(listener.getsockname()[1])
        server, _ = listener.accept()
    with client, server:
        yield client, server


@contextmanager
def sending(client: socket.socket, data: bytes) -> Iterator[None]:
    thread = threading.Thread(target=send_all, args=(client, data))
    thread.start()
    yield
    thread.join(START_S)
    assert not thread.is_alive()


@contextmanager
def ifq_of(
    area_bytes: int = 4 * MIB, **options: object
) -> Iterator[tuple[pyzcrx.Ring, pyzcrx.Ifq]]:
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(area_bytes) as area:
        yield ring, register(ring, area, **options)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with nothing_leaks():
        yield


def test_probe_knows_this_kernel() -> None:
    found = pyzcrx.probe()
    assert found.ready
    assert found.nodev
    assert found.query
    assert found.ctrl_ops is not None
    assert pyzcrx.uapi.CtrlOp.FLUSH_RQ in found.ctrl_ops


@pytest.mark.parametrize("rq_memory", ["user", "kernel"])
def test_events_with_either_refill_queue_memory(rq_memory: str) -> None:
    data = os.urandom(5 * MIB)
    received = bytearray()
    with (
        connected() as (client, sock),
        sending(client, data),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(64 << 20) as area,
    ):
        ifq = register(ring, area, rq_memory=rq_memory)
        request = ifq.receive(sock)
        for event in ring.events():
            match event:
                case pyzcrx.Data(request=r, buffer=buf):
                    assert r is request
                    received += buf.view()
                    buf.release()
                case pyzcrx.End(request=r):
                    break
                case pyzcrx.Failed(error=error):
                    raise error
    assert received == data


def test_batches_and_columns() -> None:
    data = os.urandom(5 * MIB)
    received = bytearray()
    with connected() as (client, sock), sending(client, data), ifq_of() as (ring, ifq):
        request = ifq.receive(sock, context="mine")
        for batch in ring.batches():
            for run in batch.runs():
                assert run.request is request
                assert run.size_bytes == sum(batch.lengths[run.start : run.stop])
                for i in range(run.start, run.stop):
                    at = batch.offs[i] & OFFSET_MASK
                    view = ifq.area.view[at : at + batch.lengths[i]]
                    assert view == batch.view(request, i)
                    received += view
            batch.release()
        stats = ifq.stats()
    assert received == data
    assert stats.bytes == 5 * MIB
    assert CARD.copied(stats.as_dict())
    assert stats.held_buffers == 0


def test_limits_and_resume() -> None:
    data = os.urandom(100_000)
    received = bytearray()
    limits = 0
    with connected() as (client, sock), sending(client, data), ifq_of() as (ring, ifq):
        request = ifq.receive(sock, limit=30_000)
        for event in ring.events():
            match event:
                case pyzcrx.Data(buffer=buf):
                    received += buf
                    buf.release()
                case pyzcrx.Limit():
                    limits += 1
                    assert len(received) == 30_000 * limits
                    request.resume(30_000)
    assert received == data
    assert limits == 3


def test_a_limit_at_the_very_end_is_the_limit() -> None:
    with connected() as (client, sock), ifq_of() as (ring, ifq):
        client.sendall(bytes(1000))
        client.shutdown(socket.SHUT_WR)
        request = ifq.receive(sock, limit=1000)
        data, limit = ring.events()
        assert isinstance(limit, pyzcrx.Limit)
        request.resume()
        (end,) = ring.events()
        assert isinstance(end, pyzcrx.End)
        assert isinstance(data, pyzcrx.Data)


def test_release_is_refused_while_numpy_looks() -> None:
    with connected() as (client, sock), ifq_of() as (ring, ifq):
        client.sendall(b"abcdef")
        ifq.receive(sock)
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        tail = numpy.frombuffer(event.buffer.view(), "u1")[3:]
        with pytest.raises(pyzcrx.BufferInUse):
            event.buffer.release()
        assert bytes(tail) == b"def"
        del tail
        event.buffer.release()


def test_views_and_rings_stay_readable_after_close() -> None:
    with connected() as (client, sock):
        with ifq_of(rq_memory="kernel") as (ring, ifq):
            client.sendall(b"lasting")
            ifq.receive(sock)
            event = next(ring.events())
            assert isinstance(event, pyzcrx.Data)
            buffer, view = event.buffer, event.buffer.view()
            cq, rq = ring.cq_view, ifq.rq_view
            head, tail = ring.cq_head, ring.cq_tail
        assert bytes(view) == bytes(buffer) == b"lasting"
        assert cq[0, 0] == event.request.token
        assert cq[0, 1] & 0xFFFFFFFF == 7
        assert head == tail == 1
        assert rq.shape == (ifq.rq_entries, 2)
        assert rq[0, 0] == 0
        with pytest.raises(pyzcrx.ClosedError):
            ifq.receive(sock)
        with pytest.raises(pyzcrx.ClosedError):
            ifq._core.lease(buffer.off, 1)
        del view
        buffer.release()


def test_refill_entries_are_visible_in_the_shared_ring() -> None:
    with connected() as (client, sock), ifq_of() as (ring, ifq):
        client.sendall(b"x" * 10_000)
        ifq.receive(sock)
        offs, seen = [], 0
        for event in ring.events():
            assert isinstance(event, pyzcrx.Data)
            seen += len(event.buffer)
            offs.append(event.buffer.off)
            event.buffer.release()
            if seen == 10_000:
                break
        ring.wait(0)
        assert [ifq.rq_view[i, 0] for i in range(len(offs))] == offs
        assert ifq.rq.tail == len(offs)


@pytest.mark.parametrize("kind", ["thp", "memfd", "2M"])
def test_other_areas(kind: str) -> None:
    data = os.urandom(MIB)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyzcrx.errors.FallbackWarning)
        area = (
            pyzcrx.Area.memfd(4 * MIB)
            if kind == "memfd"
            else pyzcrx.Area.anonymous(4 * MIB, huge=kind)  # type: ignore[arg-type]
        )
    received = bytearray()
    with area, pyzcrx.Ring() as ring, connected() as (client, sock), sending(client, data):
        register(ring, area).receive(sock)
        for event in ring.events():
            if isinstance(event, pyzcrx.Data):
                received += event.buffer
                event.buffer.release()
    assert received == data


def test_real_huge_pages() -> None:
    pool = "/proc/sys/vm/nr_hugepages"
    with open(pool) as file:
        before = file.read()
    with open(pool, "w") as file:
        file.write("4")
    try:
        for make in (pyzcrx.Area.anonymous, pyzcrx.Area.memfd):
            data, received = os.urandom(MIB), bytearray()
            with (
                connected() as (client, sock),
                sending(client, data),
                make(4 * MIB, huge="2M") as area,
                pyzcrx.Ring() as ring,
            ):
                assert area.page_bytes == 2 * MIB
                register(ring, area).receive(sock)
                for event in ring.events():
                    if isinstance(event, pyzcrx.Data):
                        received += event.buffer.view()
                        event.buffer.release()
                    else:
                        assert isinstance(event, pyzcrx.End)
            assert received == data
    finally:
        with open(pool, "w") as file:
            file.write(before)


def _protect(area: pyzcrx.Area, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    page = ctypes.c_void_p(area._address + area.size_bytes - mmap.PAGESIZE)
    if libc.mprotect(page, ctypes.c_size_t(mmap.PAGESIZE), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


@pytest.mark.parametrize("protection", [0, mmap.PROT_READ])
@pytest.mark.parametrize("kind", ["anonymous", "memfd"])
def test_area_memory_that_cannot_be_written(kind: str, protection: int) -> None:
    """One page of it, the last, is read-only or has no access at all."""
    with pyzcrx.Ring() as ring, getattr(pyzcrx.Area, kind)(MIB) as area:
        _protect(area, protection)
        with pytest.raises(pyzcrx.errors.BadAreaMemory, match="read-only or not mapped") as caught:
            register(ring, area)
        assert caught.value.errno == errno.EFAULT
        with pyzcrx.Area.anonymous(4 * MIB) as first:
            ifq = register(ring, first)
            with pytest.raises(pyzcrx.errors.BadAreaMemory, match="read-only or not mapped"):
                ifq.add_area(area)
            _protect(area, mmap.PROT_READ | mmap.PROT_WRITE)
            ifq.add_area(area)


def test_views_keep_an_area_from_a_second_registration() -> None:
    """Nothing that is held turns, whatever comes after."""
    with pyzcrx.Area.anonymous(4 * MIB) as area:
        with pyzcrx.Ring() as ring, connected() as (client, server):
            ifq = register(ring, area)
            ifq.receive(server)
            client.sendall(b"A" * 9000)
            data = (e for e in ring.events(START_S) if isinstance(e, pyzcrx.Data))
            buffer = next(data).buffer
            array = numpy.ndarray((len(buffer),), "u1", buffer.view())
        with pyzcrx.Ring() as ring, pytest.raises(pyzcrx.errors.AreaInUse, match="1 Buffers out"):
            register(ring, area)
        assert set(array) == {ord("A")}
        with buffer:
            pass
        del array, data
        with pyzcrx.Ring() as ring, connected() as (client, server):
            ifq = register(ring, area)
            request = ifq.receive(server)
            client.sendall(b"B" * 9000)
            client.shutdown(socket.SHUT_WR)
            for event in ring.events(START_S):
                if isinstance(event, pyzcrx.Data):
                    with event.buffer:
                        assert set(event.buffer.view()) == {ord("B")}
            assert request.received == 9000


def test_several_ifqs_on_one_ring_keep_their_buffers_apart() -> None:
    if CARD.zero_copy:
        pytest.skip("expected: needs two queues and steering; in tests/sim")
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(MIB) as one,
        pyzcrx.Area.anonymous(MIB) as two,
    ):
        ifqs = [register(ring, one), register(ring, two)]
        with connected() as (c1, s1), connected() as (c2, s2):
            for ifq, client, sock in zip(ifqs, (c1, c2), (s1, s2), strict=True):
                ifq.receive(sock)
                with sending(client, bytes(200_000)):
                    pass
            for batch in ring.batches():
                for run in batch.runs():
                    assert any(run.request.ifq is ifq for ifq in ifqs)
            assert [ifq.stats().bytes for ifq in ifqs] == [200_000, 200_000]
            assert [ifq._core.account.leased for ifq in ifqs] == [0, 0]
        with pytest.raises(pyzcrx.errors.BadArgument, match="another ifq"):
            register(ring, one)


def test_two_starved_ifqs_are_told_both() -> None:
    if CARD.zero_copy:
        pytest.skip("expected: needs two queues and steering; in tests/sim")
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(1 << 14) as one,
        pyzcrx.Area.anonymous(1 << 14) as two,
        connected() as (c1, s1),
        connected() as (c2, s2),
    ):
        for client, area, sock in ((c1, one, s1), (c2, two, s2)):
            client.sendall(bytes(100_000))
            register(ring, area).receive(sock)
        kept = []
        failed = 0
        for event in ring.events():
            kept.append(event)
            failed += isinstance(event, pyzcrx.Failed)
        assert failed == 2


# -- bad sockets -------------------------------------------------------------


def test_sockets_that_are_no_connected_tcp() -> None:
    with ifq_of() as (_, ifq):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with udp, pytest.raises(pyzcrx.errors.NotTcp):
            ifq.receive(udp)
        left, right = socket.socketpair()
        with left, right, pytest.raises(pyzcrx.errors.NotTcp):
            ifq.receive(left)
        listener = socket.create_server(("127.0.0.1", 0))
        with listener, pytest.raises(pyzcrx.errors.NotConnected):
            ifq.receive(listener)
        with open("/dev/null") as file, pytest.raises(pyzcrx.errors.NotTcp, match="not a socket"):
            ifq.receive(file.fileno())
        with pytest.raises(pyzcrx.errors.NotConnected):
            ifq.receive(listener)  # closed
        with pytest.raises(pyzcrx.errors.BadArgument):
            ifq.receive(-1)
        for limit in (0, -5):
            with connected() as (_, sock), pytest.raises(pyzcrx.errors.BadArgument, match="limit"):
                ifq.receive(sock, limit=limit)


def test_an_unconnected_tcp_socket_fails_typed() -> None:
    with ifq_of() as (ring, ifq), socket.socket() as sock:
        ifq.receive(sock)
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.NotConnected)


def test_mptcp_fails_typed() -> None:
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError as error:
        pytest.fail(f"the guest's kernel has no MPTCP: {error}")
    with sock, ifq_of() as (_, ifq), pytest.raises(pyzcrx.errors.NotTcp, match="MPTCP"):
        ifq.receive(sock)


def test_reset_after_data() -> None:
    with connected() as (client, sock), ifq_of() as (ring, ifq):
        ifq.receive(sock)
        client.sendall(b"first")
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        assert bytes(event.buffer) == b"first"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        failed = next(ring.events())
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.PeerReset)
        event.buffer.release()


def test_urgent_data_is_a_typed_error() -> None:
    with CARD.urgent_defence(), connected() as (client, sock), ifq_of() as (ring, ifq):
        client.sendall(b"abc")
        client.send(b"d", socket.MSG_OOB)
        client.sendall(b"efghi")
        client.close()
        ifq.receive(sock)
        *data, last = ring.events()
        got = b"".join(bytes(event.buffer) for event in data if isinstance(event, pyzcrx.Data))
        if CARD.zero_copy:
            # The defence makes an ordinary byte of the urgent one.
            assert isinstance(last, pyzcrx.End)
            assert got == b"abcdefghi"
        else:
            assert isinstance(last, pyzcrx.Failed)
            assert isinstance(last.error, pyzcrx.errors.UrgentDataLost)
            assert len(got) + last.error.unread_bytes == 9


def test_cancel_a_request() -> None:
    with connected() as (_, sock), ifq_of() as (ring, ifq):
        request = ifq.receive(sock)
        ring.wait(0)
        request.cancel()
        (failed,) = ring.events()
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.Cancelled)
        request.cancel()


def test_close_with_everything_in_flight() -> None:
    with connected() as (client, sock):
        ring = pyzcrx.Ring()
        area = pyzcrx.Area.anonymous(1 << 16)
        ifq = ring.register_ifq(area)
        client.sendall(bytes(200_000))
        ifq.receive(sock)
        batch = ring.wait(1)
        kept = next(ring.events())
        assert isinstance(kept, pyzcrx.Data)
        ring.close()
        area.close()
        assert len(bytes(kept.buffer)) > 0
        assert len(batch) > 0
        kept.buffer.release()


def test_a_forked_child_does_not_see_received_bytes_and_survives_them() -> None:
    with connected() as (client, sock), ifq_of() as (ring, ifq):
        client.sendall(b"secret")
        ifq.receive(sock)
        event = next(ring.events())
        assert isinstance(event, pyzcrx.Data)
        view = event.buffer.view()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if bytes(view) == bytes(6):
                    view.release()
                    event.buffer.release()
                    try:
                        ifq.receive(sock)
                    except pyzcrx.errors.ForkedChild:
                        status = 0
                ring.close()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert bytes(view) == b"secret"
        client.sendall(b"more")
        more = next(ring.events())
        assert isinstance(more, pyzcrx.Data)
        assert bytes(more.buffer) == b"more"
        del view
        event.buffer.release()
        more.buffer.release()


def test_release_from_another_thread() -> None:
    with connected() as (client, sock), ifq_of() as (ring, ifq), sending(client, bytes(MIB)):
        ifq.receive(sock)
        seen = 0
        for event in ring.events():
            if isinstance(event, pyzcrx.Data):
                seen += len(event.buffer)
                thread = threading.Thread(target=event.buffer.release)
                thread.start()
                thread.join()
        assert seen == MIB


def test_a_small_memlock_limit_is_a_typed_error() -> None:
    code = """
import resource, pyzcrx
resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
with pyzcrx.Ring(cq_entries=64) as ring, pyzcrx.Area.anonymous(16 << 20) as area:
    try: ring.register_ifq(area)
    except pyzcrx.errors.NoMemory as error: print(error)
"""
    # CAP_NET_ADMIN stays, CAP_IPC_LOCK goes.
    done = subprocess.run(
        ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "python3", "-c", code],
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert "RLIMIT_MEMLOCK" in done.stdout, done.stderr


def test_probe_where_io_uring_is_switched_off() -> None:
    switch = "/proc/sys/kernel/io_uring_disabled"
    with open(switch, "w") as file:
        file.write("2")
    try:
        found = pyzcrx.probe()
        with pytest.raises(pyzcrx.errors.NotPermitted, match="io_uring_disabled"):
            pyzcrx.Ring()
    finally:
        with open(switch, "w") as file:
            file.write("0")
    assert found.zcrx is Presence.NO_IO_URING
