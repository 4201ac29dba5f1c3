"""Python's mirror of the kernel's interface against the C side, value by value."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import pytest

from pyzcrx import uapi
from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._ring import tokens

PREFIXES: dict[type[IntEnum] | type[IntFlag], str] = {
    uapi.RegisterOp: "PZ_REGISTER_",
    uapi.Setup: "PZ_SETUP_",
    uapi.SqFlag: "PZ_SQ_",
    uapi.CqeFlag: "PZ_CQE_F_",
    uapi.RegisterFlag: "PZ_REG_",
    uapi.AreaFlag: "PZ_AREA_",
    uapi.Feature: "PZ_FEATURE_",
    uapi.CtrlOp: "PZ_CTRL_",
    uapi.EventType: "PZ_EVENT_",
    uapi.Query: "PZ_QUERY_",
    uapi.NapiOp: "PZ_NAPI_",
    uapi.NapiTracking: "PZ_NAPI_TRACKING_",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(f"{prefix}{m.name}", m.value) for kind, prefix in PREFIXES.items() for m in kind],
)
def test_every_enum_member_has_the_c_value(name: str, value: int) -> None:
    assert getattr(lib, name) == value


def test_single_constants() -> None:
    assert lib.PZ_AREA_SHIFT == uapi.AREA_SHIFT
    assert lib.PZ_OP_RECV_ZC == uapi.OP_RECV_ZC
    assert lib.PZ_RQ_MAX_ENTRIES == uapi.RQ_MAX_ENTRIES
    assert tokens.TOKEN_RECEIVE == 1 << 63


def test_every_c_constant_has_a_python_one() -> None:
    ours = {f"{prefix}{member.name}" for kind, prefix in PREFIXES.items() for member in kind}
    alone = {
        "PZ_OP_RECV_ZC",
        "PZ_AREA_SHIFT",
        "PZ_RQ_MAX_ENTRIES",
        "PZ_MEM_REGION_TYPE_USER",
        "PZ_EVENT_DESC_FLAG_STATS",
        "PZ_DRAINED",
        "PZ_COUNTED",
        "PZ_TOKEN_RECEIVE_BIT",
        "PZ_TOKEN_IFQ_SHIFT",
        "PZ_TOKEN_IFQ_MASK",
        "PZ_TOKEN_REQUEST_BITS",
        "PZ_SIGNAL_TIMEOUT_NS",
    }
    theirs = {name for name in dir(lib) if name.startswith("PZ_")}
    assert theirs == ours | alone


@pytest.mark.parametrize("struct", uapi.LAYOUT)
def test_every_structure_has_the_c_layout(struct: str) -> None:
    size, fields = uapi.LAYOUT[struct]
    ctype = f"struct pz_{struct}"
    assert ffi.sizeof(ctype) == size
    assert {field: ffi.offsetof(ctype, field) for field in fields} == fields


def test_ring_formats_cover_their_entries() -> None:
    assert uapi.LAYOUT["rqe"][0] == uapi.RQ_WORDS * 8
    assert uapi.CQ_WORDS * 8 == 32
