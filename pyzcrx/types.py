"""Types of what public objects return, for annotations: ``from pyzcrx.types import Audit``.

Programs get these objects from methods and do not make them, so they are not at the top.
"""

from __future__ import annotations

from pyzcrx._pressure.audit import Audit
from pyzcrx._pressure.holders import Held, Holder
from pyzcrx._pressure.policy import AreaAdvice
from pyzcrx._pressure.stats import ReceiverStats
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._receive.chunk import Chunk
from pyzcrx._send.accept import Accept
from pyzcrx._send.send import Send
from pyzcrx._send.stats import SendStats
from pyzcrx.forwarding.stats import RelayStats
from pyzcrx.probe import Presence, Probe
from pyzcrx.stream import Stream

__all__ = [
    "Accept",
    "AreaAdvice",
    "Audit",
    "Chunk",
    "Held",
    "Holder",
    "Presence",
    "Probe",
    "ReceiverStats",
    "RefillQueue",
    "RelayStats",
    "Send",
    "SendStats",
    "Stream",
]
