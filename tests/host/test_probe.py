"""What the running kernel, whichever it is, truthfully answers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

import pyzcrx
from pyzcrx.probe import Presence
from tests.leaks import nothing_leaks

# The user stays: Python itself may lie where another one cannot read it.
WITHOUT_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def unprivileged(code: str) -> str:
    """What *code* prints when run without a capability."""
    prefix = WITHOUT_CAPABILITIES if os.geteuid() == 0 else []
    return subprocess.run(
        [*prefix, sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    ).stdout


def test_probe_agrees_with_a_registration() -> None:
    found = pyzcrx.probe()
    assert found.kernel == os.uname().release
    if found.zcrx is not Presence.PRESENT:
        assert not found.ready
        assert found.notes
        return
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(16 << 12) as area:
        try:
            ring.register_ifq(area)
            registered: int | None = None
        except pyzcrx.KernelError as error:
            registered = error.errno
    if found.permitted:
        assert found.nodev == (registered is None)
    else:
        assert registered == errno.EPERM


def test_probe_answers_the_query_like_the_kernel_or_says_that_it_cannot() -> None:
    found = pyzcrx.probe()
    details = (found.register_flags, found.area_flags, found.features, found.ctrl_ops, found.stats)
    if found.query:
        assert None not in details
        if found.nodev:
            assert found.register_flags is not None
            assert pyzcrx.uapi.RegisterFlag.NODEV in found.register_flags
    else:
        assert set(details) == {None}


def test_probe_is_plain_json_and_leaves_nothing() -> None:
    pyzcrx.probe()
    with nothing_leaks():
        found = pyzcrx.probe()
    assert json.loads(json.dumps(found.as_dict()))["zcrx"] == found.zcrx.value


def test_probe_without_privilege() -> None:
    text = unprivileged(
        "import pyzcrx, json; p = pyzcrx.probe(); print(json.dumps([p.as_dict(), p.ready]))"
    )
    found, ready = json.loads(text)
    assert ready is False
    if found["zcrx"] == "present":
        assert found["permitted"] is False
        assert "CAP_NET_ADMIN" in found["notes"][0]


def test_registration_without_privilege_is_not_permitted() -> None:
    if pyzcrx.probe().zcrx is not Presence.PRESENT:
        pytest.skip("this kernel has no zcrx, so there is nothing to be refused")
    text = unprivileged(
        "import pyzcrx\n"
        "with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4096) as area:\n"
        "    try: ring.register_ifq(area)\n"
        "    except pyzcrx.errors.NotPermitted as error: print(error)\n"
    )
    assert "EPERM" in text
    assert "CAP_NET_ADMIN" in text
    assert text.count("\n") == 1
