"""Busy polling of a ring, as the kernel tells of it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import pyzcrx


def told(ring: pyzcrx.Ring) -> dict[str, str]:
    """The NAPI lines of ``/proc/self/fdinfo``."""
    lines = Path(f"/proc/self/fdinfo/{ring.ring_fd}").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key: value.strip() for key, value in pairs if "napi" in key.lower()}


def test_dynamic_tracking_on_and_off() -> None:
    with pyzcrx.Ring() as ring:
        if told(ring).get("NAPI") != "disabled":
            pytest.skip("expected: this kernel tells nothing of a ring's busy polling")
        ring.register_napi(50, prefer=True)
        assert told(ring) == {
            "NAPI": "enabled",
            "napi tracking": "dynamic",
            "napi_busy_poll_dt": "50000",
            "napi_prefer_busy_poll": "true",
        }
        ring.register_napi(0)
        assert told(ring)["NAPI"] == "disabled"


def test_static_tracking() -> None:
    with pyzcrx.Ring() as ring:
        if told(ring).get("NAPI") != "disabled":
            pytest.skip("expected: this kernel tells nothing of a ring's busy polling")
        ring.register_napi(20, napi_ids=[1 << 20, 1 << 20])
        assert told(ring)["napi tracking"] == "static"
        assert told(ring)["napi_prefer_busy_poll"] == "false"


def test_a_number_that_is_no_napi_id_leaves_polling_off() -> None:
    with pyzcrx.Ring() as ring:
        with pytest.raises(pyzcrx.errors.NotSupported, match="NAPI id") as caught:
            ring.register_napi(20, napi_ids=[1])  # below every id that the kernel gives
        assert caught.value.errno == errno.EINVAL
        assert told(ring).get("NAPI", "disabled") == "disabled"


def test_refused_once_closed() -> None:
    ring = pyzcrx.Ring()
    ring.close()
    with pytest.raises(pyzcrx.ClosedError):
        ring.register_napi(20)
