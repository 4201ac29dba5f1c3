"""Kernels other than the stock one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import module
from vm.choice import choose, debug_at_hand
from vm.config import Config, Share
from vm.demo import InGuest, Sim, Steps, stream
from vm.errors import KernelSplat, NotOffered
from vm.guest import Guest
from vm.kernel import Kernel
from vm.module import Module

MIB = 1 << 20


@pytest.fixture
def older() -> Kernel:
    """The oldest series that the simulated card is for."""
    try:
        return choose("debian:7.2")
    except NotOffered as error:
        pytest.skip(f"expected: {error}")


def test_true_zero_copy_on_an_older_kernel(older: Kernel) -> None:
    card = Sim(older)
    with Guest(Config(kernel=older, shares=card.shares())) as guest:
        assert guest.release == older.release
        assert guest.release.startswith("7.2.")
        outcome = stream(InGuest(guest), card, "/root", 8 * MIB, Steps())
        books = guest.run(["ethtool", "-S", "zcrx0"]).stdout.decode()
        assert guest.run(["rmmod", "zcrxsim"]).returncode == 0
    assert outcome.figures["bytes"] == 8 * MIB
    assert outcome.zero_copied > 0.999  # the rest is neighbour discovery
    assert "rx1_page_bytes: 0\n" in books


COMPLAIN = Module("complain", Path(__file__).parent / "complain/complain", "W=1")
REPORTS = {
    "kasan": ("BUG: KASAN: slab-use-after-free", "Freed by task"),
    "lockdep": ("WARNING: possible circular locking dependency detected", "complain"),
}


@pytest.fixture(scope="module")
def checked() -> Kernel:
    """A kernel that checks itself, if somebody has built it: that takes an hour."""
    if kernel := debug_at_hand():
        return kernel
    pytest.skip("expected: no debug kernel is built here (python -m vm build --debug)")


@pytest.mark.parametrize("mistake", list(REPORTS))
def test_what_a_debug_kernel_says_fails_the_run(checked: Kernel, mistake: str) -> None:
    built = module.obtain(COMPLAIN, checked)
    shares = (Share(built.path, COMPLAIN.guest_folder),)
    with Guest(Config(kernel=checked, shares=shares, wheel="none")) as guest:
        with pytest.raises(KernelSplat) as caught:
            module.set_up(guest.run, mistake, module=COMPLAIN)
        report = "\n".join(caught.value.details)
        for line in REPORTS[mistake]:
            assert line in report
