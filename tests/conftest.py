"""Lets tests import ``vm`` and ``tests`` from the checkout; tells of failures as they happen, tells
the guest's kernel log which test begins, and ends a test that hangs.

At the end of the path: pyzcrx itself comes from where it is installed.
"""

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parents[1]))

# A busy machine is no failure.
settings.register_profile("pyzcrx", deadline=None)
settings.load_profile("pyzcrx")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line at once: in an emulated guest the end, where it is told wholly, is far."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message.splitlines()[0] if crash and crash.message else ""
        print(f"\n{report.nodeid} ({report.when}): {said[:200]}", file=sys.__stdout__, flush=True)


def pytest_runtest_logstart(nodeid: str) -> None:
    """In a guest its kernel's reports name their test by that (vm/splat.py)."""
    if "PYZCRX_TEST_CARD" in os.environ:
        Path("/dev/kmsg").write_text(f"pyzcrx: test {nodeid}\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Shows where each thread is, and ends the run. pytest's own option only shows it before 9."""
    seconds = float(os.environ.get("PYZCRX_TEST_HUNG", "0"))
    if seconds:
        where = item.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(seconds, exit=True, file=where)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
