"""Zero-copy network receive for Python: Linux's io_uring zcrx through liburing.

Start at :class:`Ring`. The words are the kernel's own
(``Documentation/networking/iou-zcrx.rst``).
"""

from pyzcrx.area import Area
from pyzcrx.audit import Audit
from pyzcrx.batch import Batch, Run
from pyzcrx.buffer import Buffer
from pyzcrx.errors import (
    AccountsDoNotBalance,
    AreaExhausted,
    AreaHeld,
    AreaInUse,
    BadAreaMemory,
    BadArgument,
    BadRequest,
    Cancelled,
    CardBusy,
    CardError,
    CardUnfit,
    CatchesStrangers,
    ClosedError,
    CorruptRing,
    DoubleRelease,
    FallbackWarning,
    ForkedChild,
    IncompleteRead,
    InterfaceGone,
    JournalError,
    KernelError,
    LeakWarning,
    NoMemory,
    NoSuchInterface,
    NotConnected,
    NotPermitted,
    NotSupported,
    NotTcp,
    OutOfRange,
    PeerReset,
    PressureWarning,
    ProviderIgnored,
    QueueBound,
    QueueBusy,
    ReceiveError,
    RestoreFailed,
    RuleExists,
    RuleTableFull,
    SetupFailed,
    UrgentDataLost,
    UsageError,
    ViewsAlive,
    WrongQueue,
    WrongThread,
    ZcrxError,
)
from pyzcrx.events import Accepted, Data, End, Event, Failed, Limit, Sent
from pyzcrx.holders import Holder
from pyzcrx.ifq import Ifq
from pyzcrx.loop import Ring
from pyzcrx.operations import Accept, Send
from pyzcrx.pressure import AreaAdvice, Pressure, area_advice
from pyzcrx.probe import Presence, Probe, probe
from pyzcrx.receive import Request
from pyzcrx.refill import RefillQueue
from pyzcrx.stats import ReceiverStats
from pyzcrx.stream import Stream
from pyzcrx.urgent import drop_urgent

__version__ = "0.1.0"

__all__ = [
    "Accept",
    "Accepted",
    "AccountsDoNotBalance",
    "Area",
    "AreaAdvice",
    "AreaExhausted",
    "AreaHeld",
    "AreaInUse",
    "Audit",
    "BadAreaMemory",
    "BadArgument",
    "BadRequest",
    "Batch",
    "Buffer",
    "Cancelled",
    "CardBusy",
    "CardError",
    "CardUnfit",
    "CatchesStrangers",
    "ClosedError",
    "CorruptRing",
    "Data",
    "DoubleRelease",
    "End",
    "Event",
    "Failed",
    "FallbackWarning",
    "ForkedChild",
    "Holder",
    "Ifq",
    "IncompleteRead",
    "InterfaceGone",
    "JournalError",
    "KernelError",
    "LeakWarning",
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
    "Pressure",
    "PressureWarning",
    "Probe",
    "ProviderIgnored",
    "QueueBound",
    "QueueBusy",
    "ReceiveError",
    "ReceiverStats",
    "RefillQueue",
    "Request",
    "RestoreFailed",
    "Ring",
    "RuleExists",
    "RuleTableFull",
    "Run",
    "Send",
    "Sent",
    "SetupFailed",
    "Stream",
    "UrgentDataLost",
    "UsageError",
    "ViewsAlive",
    "WrongQueue",
    "WrongThread",
    "ZcrxError",
    "__version__",
    "area_advice",
    "drop_urgent",
    "probe",
]
