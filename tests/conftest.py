"""Lets tests import ``vm`` and ``tests`` from the checkout; tells of failures as they happen.

At the end of the path: pyzcrx itself comes from where it is installed.
"""

import sys
from pathlib import Path

import pytest
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
