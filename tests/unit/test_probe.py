"""Every answer a kernel may give to a zeroed registration, and what the probe makes of it."""

from __future__ import annotations

import errno
import sys
from typing import Any

import pytest

from pyzcrx import probe
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx.probe import Presence, Probe
from pyzcrx.uapi import CtrlOp, Feature, RegisterFlag


class Kernel:
    """The shim in front of a kernel that answers as told; rings are real ones."""

    def __init__(self, registration: int, query: dict[str, int] | None) -> None:
        self._registration = registration
        self._query = query

    def pz_register_ifq(self, _raw: Any, _reg: Any) -> int:
        return self._registration

    def pz_register(self, _fd: int, _opcode: int, argument: int, _nr: int) -> int:
        if self._query is None:
            return -errno.EINVAL
        hdr = ffi.cast("struct pz_query_hdr *", argument)
        if hdr.query_op != lib.PZ_QUERY_ZCRX:
            hdr.result = -errno.EOPNOTSUPP
            return 0
        answer = ffi.cast("struct pz_query_zcrx *", hdr.query_data)
        for name, value in self._query.items():
            setattr(answer, name, value)
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)


def probed(
    monkeypatch: pytest.MonkeyPatch, registration: int, query: dict[str, int] | None = None
) -> Probe:
    # The function of the package has its module's name.
    kernel = Kernel(registration, query)
    for module in ("pyzcrx.probe", "pyzcrx._kernel.query"):
        monkeypatch.setattr(sys.modules[module], "lib", kernel)
    return probe()


QUERY = {
    "register_flags": RegisterFlag.NODEV | 1 << 40,
    "area_flags": 1,
    "nr_ctrl_opcodes": 2,
    "features": Feature.RX_PAGE_SIZE,
}


@pytest.mark.parametrize(
    ("number", "presence"),
    [
        (errno.EFAULT, Presence.PRESENT),
        (errno.EPERM, Presence.PRESENT),
        (errno.EOPNOTSUPP, Presence.COMPILED_OUT),
        (errno.EINVAL, Presence.UNKNOWN_TO_KERNEL),
        (errno.ENOMEM, Presence.PRESENT),
    ],
)
def test_presence(monkeypatch: pytest.MonkeyPatch, number: int, presence: Presence) -> None:
    found = probed(monkeypatch, -number)
    assert found.zcrx is presence
    assert found.permitted is (None if presence is not Presence.PRESENT else number == errno.EFAULT)
    assert bool(found.notes) == (number != errno.EFAULT)


def test_a_query_is_not_believed_where_zcrx_is_compiled_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = probed(monkeypatch, -errno.EOPNOTSUPP, QUERY)
    assert not found.query
    assert found.register_flags is None
    assert not found.ready


def test_details_of_the_query_with_flags_of_a_newer_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = probed(monkeypatch, -errno.EPERM, QUERY)
    assert found.query
    assert found.register_flags == RegisterFlag.NODEV
    assert found.features == Feature.RX_PAGE_SIZE
    assert found.ctrl_ops == (CtrlOp.FLUSH_RQ, CtrlOp.EXPORT)
    assert found.stats is False
    assert found.nodev is True


def test_without_privilege_and_query_nodev_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(monkeypatch, -errno.EPERM).nodev is None


def test_no_io_uring(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Kernel):
        def pz_ring_init(self, *_args: Any) -> int:
            return -errno.EPERM

    monkeypatch.setattr("pyzcrx._ring.rings.lib", Refusing(0, None))
    found = probe()
    assert found.zcrx is Presence.NO_IO_URING
    assert "io_uring_disabled" in found.notes[0]
    assert found.as_dict()["zcrx"] == "no io_uring"
