"""A set-up that fails, or whose program dies, at any step; what else may be in its way."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx.nic import settings, steps
from tests.guest.card import run
from tests.nic.card import Card, journals
from tests.nic.test_setup import flow
from tests.patience import START_S
from tests.sim.fresh import zcrx_nic


def count_steps(card: Card) -> int:
    wanted = nic.Wanted((nic.Flow.parse(flow(card)),), **card.everything)
    return len(nic.plan(nic.read(card.interface), wanted).steps)


@pytest.mark.parametrize(
    ("when", "kind"), [("before", pyzcrx.errors.SetupFailed), ("after", KeyboardInterrupt)]
)
def test_a_fault_at_every_step_leaves_the_card_as_it_was(
    card: Card, monkeypatch: pytest.MonkeyPatch, when: str, kind: type[BaseException]
) -> None:
    before = card.state()
    do = nic.Setup._do
    for fault in range(count_steps(card)):
        left = [fault]

        def broken(self: nic.Setup, step: steps.Step, left: list[int] = left) -> steps.Step:
            left[0] -= 1
            if left[0] >= 0:
                return do(self, step)
            if when == "after":
                do(self, step)
            raise kind("here")

        monkeypatch.setattr(nic.Setup, "_do", broken)
        with pytest.raises(kind):
            nic.prepare(card.interface, flow(card), **card.everything)
        assert card.state() == before, f"step {fault}"
        assert journals() == []


def test_death_at_every_step_is_undone(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    before = card.state()
    do = nic.Setup._do
    for fault in range(count_steps(card)):
        for when in ("before", "after"):
            pid = os.fork()
            if not pid:
                left = [fault]

                def dying(self: nic.Setup, step: steps.Step, left: list[int] = left) -> steps.Step:
                    left[0] -= 1
                    if left[0] >= 0:
                        return do(self, step)
                    if when == "after":  # noqa: B023
                        do(self, step)
                    os.kill(os.getpid(), signal.SIGKILL)
                    raise AssertionError

                monkeypatch.setattr(nic.Setup, "_do", dying)
                nic.prepare(card.interface, flow(card), **card.everything)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
            assert [journal.owner.pid for journal in nic.restore()] == [pid]
            assert card.state() == before, f"step {fault}, {when}"
            assert journals() == []


def test_the_card_refuses(card: Card) -> None:
    with pytest.raises(pyzcrx.errors.InvalidRequest, match=card.ring_refusal):
        nic.prepare(card.interface, flow(card), rx_ring=2)


def test_the_kernel_refuses_the_last_step(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings._NAPI_MOST, "threaded", 9)
    with pytest.raises(pyzcrx.KernelError, match="set NAPI"):
        nic.prepare(card.interface, flow(card), **card.everything | {"napi": {"threaded": 9}})


def test_a_setting_that_does_not_hold(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    change = settings.change

    def lazy(kernel: nic.Reader, ifindex: int, key: str, value: settings.Value) -> bool:
        return True if key == "rss" else change(kernel, ifindex, key, value)

    monkeypatch.setattr(settings, "change", lazy)
    with pytest.raises(pyzcrx.errors.SetupFailed, match=r"rss: the NIC took weight .* without"):
        nic.prepare(card.interface, flow(card))


def test_privilege_lost_half_way(card: Card) -> None:
    script = f"""
import ctypes, sys, warnings, pyzcrx
from pyzcrx import nic
from pyzcrx.doctor import facts
do, left = nic.Setup._do, [3]
def drop(self, step):
    left[0] -= 1
    if not left[0]:
        # capset(): nothing effective, nothing permitted
        head = (ctypes.c_uint32 * 2)(0x20080522, 0)
        assert ctypes.CDLL(None).capset(head, (ctypes.c_uint32 * 6)()) == 0
    return do(self, step)
nic.Setup._do = drop
warnings.simplefilter("ignore")
try:
    nic.prepare({card.interface!r}, {flow(card)!r})
except pyzcrx.errors.NotPermitted as error:
    sys.exit(f"{{error}}, and {{error.__notes__}}")
"""
    done = subprocess.run(
        ["python3", "-c", script], capture_output=True, text=True, timeout=2 * START_S
    )
    assert done.returncode == 1
    assert "needs CAP_NET_ADMIN" in done.stderr
    assert f"zcrx-nic restore {card.interface}" in done.stderr
    assert done.stderr.count("\n") == 1
    # Nobody could undo it, so it stays in the journal.
    assert len(journals()) == 1
    zcrx_nic("restore", "--stale")


def test_an_error_while_the_ring_is_open(card: Card) -> None:
    """It comes out of the block as it is; notes say what the open ring prevents."""
    before = card.state()
    script = f"""
import sys, warnings, pyzcrx
from pyzcrx import nic
warnings.simplefilter("ignore")
ring, area = pyzcrx.Ring(), pyzcrx.Area.anonymous(8 << 20)
try:
    with nic.prepare({card.interface!r}, {flow(card)!r}) as setup:
        ring.register_ifq(area, interface=setup.ifindex, rx_queue=setup.queue)
        1 / 0
except ZeroDivisionError as error:
    print(*error.__notes__, sep="\\n")
ring.close()
area.close()
"""
    said = run("python3", "-c", script)
    assert "is still held by a ring of this program: close that first" in said
    assert f"{card.interface} could not be put back: " in said
    card.queue_free()
    zcrx_nic("restore", "--stale", card.interface)
    assert card.state() == before


def test_renamed_meanwhile(card: Card) -> None:
    setup = nic.prepare(card.interface, flow(card))
    run("ip", "link", "set", card.interface, "name", "other0")
    try:
        assert setup.check() == []
        setup.close()
    finally:
        run("ip", "link", "set", "other0", "name", card.interface)
