"""What of a request is known to C: the Receiver, its Progress, and how it is armed."""

from __future__ import annotations

import errno
import gc
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel._ffi import lib
from pyzcrx._kernel.memory import PAGE
from pyzcrx._lease import MOST_ARM_BYTES, Core, Descriptor, Progress, Receiver
from pyzcrx._receive.protocol import ReceiveProtocol
from pyzcrx._receive.request import Request
from pyzcrx.testing import ModelKernel
from tests.unit.test_turn import Turned


@pytest.fixture
def ifq() -> Iterator[pyzcrx.Ifq]:
    with ModelKernel(), pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        yield ring.register_ifq(area, rq_entries=8)


def begin(ifq: pyzcrx.Ifq, **other: Any) -> Receiver:
    """A Receiver as a request makes itself, but for *other*."""
    values = {
        "core": ifq._core.ring,
        "slot": ifq._core.slot,
        "ifq": ifq._core,
        "fd": -1,
        "drop_urgent": False,
        "protocol": ReceiveProtocol(),
        "context": None,
    }
    assert other.keys() <= values.keys()
    make: Any = Receiver
    made: Receiver = make(*(values | other).values())
    return made


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"core": None}, TypeError),
        ({"core": Core()}, ValueError),
        ({"protocol": None}, TypeError),
        ({"protocol": Receiver()}, TypeError),
        ({"slot": "0"}, TypeError),
        ({"slot": 1 << 32}, OverflowError),
        ({"fd": None}, TypeError),
        ({"fd": 1 << 32}, OverflowError),
        ({"fd": 1 << 64}, OverflowError),
        ({"fd": -1}, OSError),
    ],
)
def test_what_cannot_be_begun(
    ifq: pyzcrx.Ifq, other: dict[str, Any], error: type[Exception]
) -> None:
    with socket.socket() as sock, pytest.raises(error):
        begin(ifq, **({"fd": sock.fileno()} | other))
    assert not ifq._core.ring.enlisted_on(ifq._core.slot)


@pytest.mark.parametrize("slot", [-1, 1 << 15])
def test_a_slot_that_no_ifq_has(slot: int) -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        with pytest.raises(ValueError, match="no such ifq"):
            begin(ifq, fd=kernel.socket().fileno(), slot=slot)


@pytest.mark.parametrize("count", [2, 6, 8])
def test_arguments_of_another_number(count: int) -> None:
    make: Any = Receiver
    with pytest.raises(TypeError):
        make(*[None] * count)
    with pytest.raises(TypeError):
        make(protocol=ReceiveProtocol())
    assert Receiver().fd == -1


def with_a_protocol(made: Receiver, core: Core, sock: Any) -> None:  # noqa: ARG001
    made.__init__(ReceiveProtocol())  # type: ignore[misc]


def with_a_descriptor(made: Receiver, core: Core, sock: Any) -> None:  # noqa: ARG001
    made._hold(Descriptor(sock.fileno()))


def with_a_token(made: Receiver, core: Core, sock: Any) -> None:  # noqa: ARG001
    core.enlist(made, 0)


def begun(made: Receiver, core: Core, sock: Any) -> None:
    made.__init__(core, 0, None, sock.fileno(), False, ReceiveProtocol(), made)  # type: ignore[misc]


@pytest.mark.parametrize("first", [with_a_protocol, with_a_descriptor, with_a_token, begun])
def test_one_that_was_begun_is_not_begun_again(first: Callable[..., None]) -> None:
    core = Turned()
    with socket.socket() as sock:
        made = Receiver()
        made.context = "before"
        first(made, core, sock)
        opened = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(ValueError, match="already"):
                begun(made, core, sock)
        assert len(os.listdir("/proc/self/fd")) == opened
        if first in (with_a_protocol, begun):
            with pytest.raises(ValueError, match="already"):
                with_a_protocol(made, core, sock)


def test_a_request_is_made_by_its_ifq() -> None:
    make: Any = Request
    with pytest.raises(TypeError, match="receive"):
        make()


def test_a_socket_of_no_use_is_refused_with_its_errno(ifq: pyzcrx.Ifq) -> None:
    with socket.socket() as sock, pytest.raises(pyzcrx.errors.NotConnected) as refused:
        ifq.receive(sock)  # the model kernel knows no such socket
    assert refused.value.errno == errno.EBADF


def test_a_progress_counts_up_to_its_limit_and_is_armed_no_more() -> None:
    progress = Progress(10)
    assert progress.arm() == progress.armed_bytes == 10
    progress.data(4)
    assert progress.arm() == 6
    assert (progress.received, progress.this_arm) == (4, 0)
    progress.data(6)
    with pytest.raises(ValueError, match="reached"):
        progress.arm()


@pytest.mark.parametrize(
    ("limit", "first"),
    [(None, 0), (MOST_ARM_BYTES - 1, MOST_ARM_BYTES - 1), (1 << 62, MOST_ARM_BYTES)],
)
def test_what_one_arm_brings(limit: int | None, first: int) -> None:
    assert Progress(limit).arm() == first


@pytest.mark.parametrize(
    ("limit", "error"), [("7", TypeError), (-1, OverflowError), (1 << 64, OverflowError)]
)
def test_a_limit_that_is_none(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Progress(limit).arm()


def test_a_progress_takes_one_argument() -> None:
    make: Any = Progress
    with pytest.raises(TypeError):
        make(1, 2)
    with pytest.raises(TypeError):
        make(limit=1)


def test_arming_what_cannot_be(ifq: pyzcrx.Ifq) -> None:
    core: Any = ifq._core.ring
    for bad in ((), (Receiver(),), (None, 0), (Receiver(), 0, 0), (Receiver(), "0")):
        with pytest.raises(TypeError):
            core.arm(*bad)
    for ring in (core, Core()):
        with pytest.raises(ValueError, match="no socket"):
            ring.arm(Receiver(ReceiveProtocol()), 0)
    with pytest.raises(OverflowError):
        core.arm(Receiver(), 1 << 32)
    assert not core.operations()


@pytest.mark.parametrize(
    ("answer", "error"), [(-errno.EBADF, None), (1, SystemError), (None, TypeError)]
)
def test_what_was_not_prepared_is_not_noted(answer: object, error: type[Exception] | None) -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        request = ifq._core.new_request(kernel.socket().fileno(), None, None)
        before = lib.replace({"pz_prep_recv_zc": lambda *_: answer})
        try:
            if error is None:
                with pytest.raises(pyzcrx.errors.KernelError):
                    request._arm()
            else:
                with pytest.raises(error):
                    request._arm()
        finally:
            lib.replace(before)
        assert not ring._core.operations()
        request._arm()
        assert ring._core.operations() == [request]


def test_one_that_is_armed_is_not_armed_again() -> None:
    """As by who was interrupted after it: the kernel would have it twice."""
    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        sock = kernel.socket()
        assert ring.fileno() >= 0  # watched: it is submitted at once
        request = ifq.receive(sock.fileno())
        request._arm()
        ifq.receive(kernel.socket().fileno())
        request._arm()
        sock.finish()
        assert [type(event) for event in ring.events(timeout=1)] == [pyzcrx.End]


def test_a_receiver_of_another_ring_is_not_armed(ifq: pyzcrx.Ifq) -> None:
    with socket.socket() as sock, pyzcrx.Ring() as other:
        made = Receiver(ReceiveProtocol())
        made._hold(Descriptor(sock.fileno()))
        other._core.enlist(made, 0)
        with pytest.raises(ValueError, match="another ring"):
            ifq._core.ring.arm(made, 0)


def test_what_a_signal_handler_raises_is_not_the_sockets_error() -> None:
    def alarmed(*_: object) -> int:
        raise TimeoutError("the alarm")

    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        sock = kernel.socket()
        before = lib.replace({"pz_tcp_ready": alarmed})
        try:
            with pytest.raises(TimeoutError, match="the alarm"):
                ifq.receive(sock.fileno())
        finally:
            lib.replace(before)
        assert not ifq._core.ring.enlisted_on(ifq._core.slot)


def test_a_request_says_what_it_does() -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        one, two = (ifq.receive(kernel.socket().fileno()) for _ in range(2))
        assert repr(one).endswith("0 bytes, in flight>")
        one.cancel()
        assert [type(event) for event in ring.events(timeout=0)] == [pyzcrx.Failed]
        assert repr(one).endswith("Failed>")
        ring.close()
        assert repr(two).endswith("over>")


def test_asking_a_receiver_without_a_socket(ifq: pyzcrx.Ifq) -> None:
    made: Any = Receiver(ReceiveProtocol())
    for core in (None, Core(), ifq._core.ring):
        with pytest.raises(TypeError):
            made._at_end(core)
    with pytest.raises(TypeError):
        made._hold(3)
    with socket.socket() as sock:
        bare: Any = Receiver()
        bare._hold(Descriptor(sock.fileno()))
        with pytest.raises(TypeError):
            bare._at_end(ifq._core.ring)
    assert made._inbox is made._state is made._over is None
    assert not made._stopping


def test_a_request_that_refers_to_itself_is_collected() -> None:
    with ModelKernel() as kernel, pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(8 * PAGE) as area:
        ifq = ring.register_ifq(area, rq_entries=8)
        sock = kernel.socket()
        request = ifq.receive(sock.fileno())
        request.context = [request]
        left = weakref.ref(request)
        sock.finish()
        del request
        assert [type(event) for event in ring.events(timeout=1)] == [pyzcrx.End]
        gc.collect()
        assert left() is None


def test_requests_have_no_dict() -> None:
    """Each would cost more than the request: see ``csrc/receiver.c``."""
    with pytest.raises(AttributeError):
        Request.__new__(Request).other = 1  # type: ignore[attr-defined]
