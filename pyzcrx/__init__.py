"""Zero-copy network receive for Python: Linux's io_uring zcrx through liburing.

Start at :class:`Ring`. The words are the kernel's own
(``Documentation/networking/iou-zcrx.rst``).
"""

from pyzcrx.area import Area
from pyzcrx.batch import Batch, Run
from pyzcrx.buffer import Buffer
from pyzcrx.errors import (
    AreaExhausted,
    BadArgument,
    BadRequest,
    Cancelled,
    ClosedError,
    CorruptRing,
    DoubleRelease,
    FallbackWarning,
    ForkedChild,
    KernelError,
    NoMemory,
    NoSuchInterface,
    NotConnected,
    NotPermitted,
    NotSupported,
    NotTcp,
    OutOfRange,
    PeerReset,
    ProviderIgnored,
    QueueBound,
    QueueBusy,
    ReceiveError,
    UrgentDataLost,
    UsageError,
    ViewsAlive,
    WrongQueue,
    WrongThread,
    ZcrxError,
)
from pyzcrx.events import Accepted, Data, End, Event, Failed, Limit, Sent
from pyzcrx.ifq import Ifq
from pyzcrx.loop import Ring
from pyzcrx.operations import Accept, Send
from pyzcrx.probe import Presence, Probe, probe
from pyzcrx.receive import Request
from pyzcrx.refill import RefillQueue
from pyzcrx.stats import ReceiverStats
from pyzcrx.urgent import drop_urgent

__version__ = "0.1.0"

__all__ = [
    "Accept",
    "Accepted",
    "Area",
    "AreaExhausted",
    "BadArgument",
    "BadRequest",
    "Batch",
    "Buffer",
    "Cancelled",
    "ClosedError",
    "CorruptRing",
    "Data",
    "DoubleRelease",
    "End",
    "Event",
    "Failed",
    "FallbackWarning",
    "ForkedChild",
    "Ifq",
    "KernelError",
    "Limit",
    "NoMemory",
    "NoSuchInterface",
    "NotConnected",
    "NotPermitted",
    "NotSupported",
    "NotTcp",
    "OutOfRange",
    "PeerReset",
    "Presence",
    "Probe",
    "ProviderIgnored",
    "QueueBound",
    "QueueBusy",
    "ReceiveError",
    "ReceiverStats",
    "RefillQueue",
    "Request",
    "Ring",
    "Run",
    "Send",
    "Sent",
    "UrgentDataLost",
    "UsageError",
    "ViewsAlive",
    "WrongQueue",
    "WrongThread",
    "ZcrxError",
    "__version__",
    "drop_urgent",
    "probe",
]
