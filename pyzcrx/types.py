"""Types of what public objects return, for annotations: ``from pyzcrx.types import Audit``.

Programs get these objects from methods and do not make them, so they are not at the top.
"""

from __future__ import annotations

from pyzcrx._pressure.audit import Audit
from pyzcrx._pressure.holders import Held, Holder
from pyzcrx._pressure.policy import AreaAdvice
from pyzcrx._pressure.stats import ReceiverStats
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._send.operations import Accept, Send
from pyzcrx.probe import Presence, Probe

__all__ = [
    "Accept",
    "AreaAdvice",
    "Audit",
    "Held",
    "Holder",
    "Presence",
    "Probe",
    "ReceiverStats",
    "RefillQueue",
    "Send",
]
