"""The helper that audits every ring of a test before it closes; the conftests take it in."""

from __future__ import annotations

import pytest

import pyzcrx


@pytest.fixture(autouse=True)
def books_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    close = pyzcrx.Ring.close

    def audit_and_close(ring: pyzcrx.Ring) -> None:
        if not ring.closed:
            for ifq in ring.ifqs:
                ifq.audit()
        close(ring)

    monkeypatch.setattr(pyzcrx.Ring, "close", audit_and_close)
