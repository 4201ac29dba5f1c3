"""What a receiver is told. Each event belongs to one request.

Made for ``match``::

    match event:
        case Data(request=r, buffer=buf): ...
        case End(request=r): ...

Data is of csrc/deliver.c, since there is one for each buffer.
"""

from __future__ import annotations

from typing import TypeAlias

from pyzcrx._lease import Data
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.request import Request
from pyzcrx._ring.outcomes import Accepted, End, Failed, Limit, Sent
from pyzcrx._send.accept import Accept
from pyzcrx._send.send import Send

__all__ = ["Accepted", "Data", "End", "Event", "Failed", "Limit", "Sent"]

Event: TypeAlias = (
    Data[Request, Buffer]
    | End[Request]
    | Limit[Request]
    | Failed[Request | Accept | Send]
    | Accepted[Accept]
    | Sent[Send]
)
