"""Every errno of the kernel's table becomes a typed, one-line error with cause and hint."""

from __future__ import annotations

import errno
import pickle

import pytest

import pyzcrx
from pyzcrx import errors
from pyzcrx._kernel import meanings
from pyzcrx._kernel.meanings import kernel_error, typed

REGISTRATION = {
    errno.EPERM: pyzcrx.errors.NotPermitted,
    errno.EINVAL: pyzcrx.errors.InvalidRequest,
    errno.EOPNOTSUPP: pyzcrx.errors.NotSupported,
    errno.EEXIST: pyzcrx.errors.QueueBound,
    errno.EBUSY: pyzcrx.errors.QueueBusy,
    errno.ERANGE: pyzcrx.errors.OutOfRange,
    errno.ENODEV: pyzcrx.errors.NoSuchInterface,
    errno.ENODATA: pyzcrx.errors.ProviderIgnored,
    errno.ENOMEM: pyzcrx.errors.NoMemory,
    errno.EFAULT: pyzcrx.errors.BadAreaMemory,
}
RECEIVE = {
    errno.EFAULT: pyzcrx.errors.WrongQueue,
    errno.EPROTONOSUPPORT: pyzcrx.errors.NotTcp,
    errno.ENOTCONN: pyzcrx.errors.NotConnected,
    errno.ECONNRESET: pyzcrx.PeerReset,
    errno.ENOMEM: pyzcrx.AreaExhausted,
    errno.ECANCELED: pyzcrx.errors.Cancelled,
    errno.ENODEV: pyzcrx.errors.InterfaceGone,
}
ADD_AREA = {errno.EFAULT: pyzcrx.errors.BadAreaMemory, errno.ENODEV: pyzcrx.errors.InterfaceGone}
TABLE = [
    (operation, number, kind)
    for operation, row in (
        ("register ifq", REGISTRATION),
        ("register ifq NODEV", {errno.EFAULT: pyzcrx.errors.BadAreaMemory}),
        ("add area", ADD_AREA),
        ("receive", RECEIVE),
    )
    for number, kind in row.items()
]


@pytest.mark.parametrize(("operation", "number", "kind"), TABLE)
def test_errno_table(operation: str, number: int, kind: type[errors.KernelError]) -> None:
    error = kernel_error(-number, operation, "eth0, queue 3")
    assert type(error) is kind
    assert error.errno == number
    assert error.cause
    assert errors.errno_name(number) in str(error)
    assert "eth0, queue 3" in str(error)
    assert error.cause in str(error)
    assert isinstance(error, OSError)
    assert isinstance(error, pyzcrx.ZcrxError)


def test_every_row_is_one_line_and_says_how_to_fix_what_can_be_fixed() -> None:
    nothing_to_fix = {errno.ECONNRESET, errno.ECANCELED, errno.EPIPE}
    for operation, row in meanings.meanings().items():
        for number, (_, cause, hint) in row.items():
            assert "\n" not in str(kernel_error(number, operation))
            assert cause
            assert bool(hint) == (number not in nothing_to_fix)


def test_nodev_has_its_own_causes_and_falls_back_on_the_others() -> None:
    assert type(kernel_error(errno.EINVAL, "register ifq NODEV")) is pyzcrx.errors.NotSupported
    assert type(kernel_error(errno.EPERM, "register ifq NODEV")) is pyzcrx.errors.NotPermitted


def test_unknown_errno_keeps_the_systems_text() -> None:
    error = kernel_error(errno.EXDEV, "register ifq")
    assert type(error) is errors.KernelError
    assert "EXDEV" in str(error)
    assert type(kernel_error(errno.EXDEV, "receive")) is pyzcrx.errors.ReceiveError


def test_builtin_categories() -> None:
    assert isinstance(kernel_error(errno.EPERM, "register ifq"), PermissionError)
    assert isinstance(kernel_error(errno.ECONNRESET, "receive"), ConnectionResetError)
    assert issubclass(pyzcrx.BufferInUse, BufferError)
    assert issubclass(pyzcrx.errors.BadArgument, ValueError)


def test_pickle() -> None:
    error = kernel_error(errno.EEXIST, "register ifq", "eth0, queue 1")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.errno == errno.EEXIST
    assert again.cause == error.cause


def test_what_has_no_errno_is_a_signal_handlers_and_passes() -> None:
    alarm = TimeoutError("the alarm")
    with pytest.raises(TimeoutError) as raised:
        typed(alarm, "receive", "fd 3")
    assert raised.value is alarm
    assert isinstance(typed(OSError(errno.EBADF, "bad"), "receive", "fd 3"), errors.NotConnected)
