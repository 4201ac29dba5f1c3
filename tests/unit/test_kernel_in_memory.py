"""The kernel in memory: whole by construction, a server runs on it, and what it lacks is said."""

from __future__ import annotations

import errno
import os
import threading

import pytest

import pyzcrx
from pyzcrx import testing
from pyzcrx._kernel import _ffi
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx.probe import Presence
from pyzcrx.testing import ModelKernel
from pyzcrx.testing.stand_in import HARMLESS

REFUSED = {
    "pz_die_with_parent",
    "pz_drop_capabilities",
    "pz_gain_no_privileges",
}


def kind_of(name: str, kernel: ModelKernel) -> str:
    if name in HARMLESS:
        return "harmless"
    return "modelled" if name in kernel._functions() else "refused"


@pytest.mark.parametrize("name", sorted(_ffi.FUNCTIONS))
def test_every_function_of_the_shim_is_accounted_for(name: str) -> None:
    kernel = ModelKernel()
    kind = kind_of(name, kernel)
    assert (kind == "refused") == (name in REFUSED)
    real = getattr(_ffi.lib, name)
    with kernel:
        function = getattr(_ffi.lib, name)
        assert (function is real) == (kind == "harmless")
        if kind == "refused":
            with pytest.raises(pyzcrx.errors.NotSupported, match=name):
                function()
    assert getattr(_ffi.lib, name) is real


def test_what_is_declared_exists() -> None:
    assert not (HARMLESS | REFUSED) - _ffi.FUNCTIONS.keys()
    assert not HARMLESS & ModelKernel()._functions().keys()
    with pytest.raises(AttributeError, match="no attribute 'pz_nothing'"):
        _ = _ffi.lib.pz_nothing


def test_a_server() -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        listener = kernel.listen()
        accept = ring.accept(listener.fileno())
        peers = [listener.connect() for _ in range(3)]
        for i, peer in enumerate(peers):
            peer.send(b"%d" % i * 100)
            peer.finish()
        accepted, ended, sent = [], 0, 0
        while sent < 3 or ended < 3:
            for event in ring.events(0):
                match event:
                    case pyzcrx.Accepted(fd=fd):
                        accepted.append(fd)
                        ifq.receive(fd, context=fd)
                    case pyzcrx.Data(request=request, buffer=buffer):
                        ring.send(request.fd, [buffer, b"!"], context=buffer)
                    case pyzcrx.Sent():
                        sent += 1
                    case pyzcrx.End():
                        ended += 1
        assert [bytes(peer.sent) for peer in peers] == [b"%d" % i * 100 + b"!" for i in range(3)]
        accept.cancel()
        (failed,) = ring.events(0)
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.errors.Cancelled)
        for fd in accepted:
            os.close(fd)
        assert (kernel.breaches, kernel.out) == ([], ifq.rq.pending)


def test_a_send_waits_for_room_and_ends_with_its_peer() -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring:
        slow, gone = kernel.socket(), kernel.socket()
        slow.room_bytes = 3
        gone.error = errno.EPIPE
        ring.send(slow.fileno(), [b"12345"])
        (failed,) = (ring.send(gone.fileno(), [b"x"]), *ring.events(0))[1:]
        assert isinstance(failed, pyzcrx.Failed)
        assert isinstance(failed.error, pyzcrx.PeerReset)
        assert bytes(slow.sent) == b"123"
        slow.room_bytes = None
        (sent,) = ring.events(0)
        assert isinstance(sent, pyzcrx.Sent)
        assert bytes(slow.sent) == b"12345"


def test_accepting_ends_with_its_error() -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring:
        listener = kernel.listen()
        listener.error = errno.EMFILE
        ring.accept(listener.fileno())
        ring.accept(kernel.socket().fileno())
        found = [event.error for event in ring.events(0) if isinstance(event, pyzcrx.Failed)]
        assert sorted(str(getattr(error, "errno", None)) for error in found) == ["22", "24"]


def test_connections_that_nobody_took_are_closed_with_the_ring() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with ModelKernel(cq_entries=1) as kernel, pyzcrx.Ring() as ring:
        listener = kernel.listen()
        ring.accept(listener.fileno())
        for _ in range(5):
            listener.connect()
        event = next(ring.events(0))
        assert isinstance(event, pyzcrx.Accepted)
        os.close(event.fd)
    found = len(os.listdir("/proc/self/fd"))
    assert found == before


def test_a_wake_up() -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring:
        fd = ring.wakeup_fd
        kernel.socket()
        assert len(ring.wait(0)) == 0
        thread = threading.Thread(target=ring.wake)
        thread.start()
        thread.join()
        os.write(fd, b"x")
        ring.wait(1).release()
        assert ring.wait(0).events == []


def test_one_ifq_a_ring() -> None:
    with (
        ModelKernel() as kernel,
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(PAGE) as area,
        pyzcrx.Area.anonymous(PAGE) as other,
    ):
        mine = ring.register_ifq(area)
        with pytest.raises(pyzcrx.errors.NotSupported, match="one ifq"):
            ring.register_ifq(other)
        with pyzcrx.Ring() as another:
            its = another.register_ifq(other)
            for here, ifq, byte in ((ring, mine, b"m"), (another, its, b"i")):
                sock = kernel.socket()
                sock.send(byte)
                request = ifq.receive(sock.fileno())
                batch = here.wait(0)
                assert batch.view(request, 0) == byte
                batch.release()
        ring.close()
        assert kernel.breaches == []


def test_a_ring_that_outlives_its_kernel_is_dead() -> None:
    with ModelKernel() as kernel, pyzcrx.Area.anonymous(PAGE) as area:
        ring = pyzcrx.Ring()
        ifq = ring.register_ifq(area)
        sock = kernel.socket()
        request = ifq.receive(sock.fileno())
    for use in (
        lambda: ring.wait(0),
        lambda: next(ring.events(0)),
        lambda: ring.accept(0),
        lambda: ring.send(0, [b"x"]),
        lambda: ring.register_ifq(area),
        request.cancel,
        ring.close,
    ):
        with pytest.raises(pyzcrx.ZcrxError):
            use()
    assert ring.closed


def test_a_ring_of_the_real_kernel_in_it() -> None:
    with pyzcrx.Ring() as ring, ModelKernel(), pytest.raises(pyzcrx.ZcrxError):
        ring.wait(0)


def test_probing_it() -> None:
    with ModelKernel():
        assert pyzcrx.probe().zcrx is Presence.PRESENT


def test_within_one_another() -> None:
    real = dict(vars(_ffi.lib))
    with ModelKernel() as outer:
        outer_lib = dict(vars(_ffi.lib))
        with ModelKernel(), testing.ModelKernel():
            pass
        assert dict(vars(_ffi.lib)) == outer_lib
        assert outer.breaches == []
    assert dict(vars(_ffi.lib)) == real


def test_memory_is_real() -> None:
    with ModelKernel():
        mapping = Mapping.anonymous(PAGE)
        mapping.view[:3] = b"abc"
        assert bytes(mapping.view[:4]) == b"abc\0"
