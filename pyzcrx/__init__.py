"""Zero-copy network receive for Python: Linux's io_uring zcrx through liburing.

Start at :class:`Ring`. The words are the kernel's own
(``Documentation/networking/iou-zcrx.rst``). All errors are in :mod:`pyzcrx.errors`; those that
programs catch most are here too.
"""

from pyzcrx import errors as errors
from pyzcrx._pressure.policy import Pressure, area_advice
from pyzcrx._queue.area import Area
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.batch import Batch, Run
from pyzcrx._receive.events import Accepted, Data, End, Event, Failed, Limit, Sent
from pyzcrx._receive.request import Request
from pyzcrx.errors import (
    AreaExhausted,
    BufferInUse,
    ClosedError,
    KernelError,
    PeerReset,
    ZcrxError,
)
from pyzcrx.forwarding.relay import relay
from pyzcrx.ifq import Ifq
from pyzcrx.probe import probe
from pyzcrx.ring import Ring
from pyzcrx.urgent import drop_urgent

__version__ = "0.1.0"

__all__ = [
    "Accepted",
    "Area",
    "AreaExhausted",
    "Batch",
    "Buffer",
    "BufferInUse",
    "ClosedError",
    "Data",
    "End",
    "Event",
    "Failed",
    "Ifq",
    "KernelError",
    "Limit",
    "PeerReset",
    "Pressure",
    "Request",
    "Ring",
    "Run",
    "Sent",
    "ZcrxError",
    "__version__",
    "area_advice",
    "drop_urgent",
    "probe",
    "relay",
]
