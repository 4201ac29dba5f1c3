"""The NIC: read, set up for zcrx, put back.

:func:`read` gives a NIC's :class:`State`; :func:`prepare` sets it up for as long as it is
used; :func:`restore` undoes what dead programs left. Needs pyroute2; nothing else of pyzcrx
does.
"""

from pyzcrx.errors import (
    JournalError,
    NicBusy,
    NicError,
    NicUnsupported,
    RestoreFailed,
    RuleExists,
    RuleTooBroad,
    SetupFailed,
)
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.plan import Plan, Wanted, listening_flows, plan
from pyzcrx.nic.read import Reader, read
from pyzcrx.nic.restore import restore
from pyzcrx.nic.setup import NicWarning, Setup, prepare
from pyzcrx.nic.state import Irq, Lease, Napi, Queue, Rings, Rss, Rule, State
from pyzcrx.nic.steering import Steered

__all__ = [
    "Flow",
    "Irq",
    "JournalError",
    "Lease",
    "Napi",
    "NicBusy",
    "NicError",
    "NicUnsupported",
    "NicWarning",
    "Plan",
    "Queue",
    "Reader",
    "RestoreFailed",
    "Rings",
    "Rss",
    "Rule",
    "RuleExists",
    "RuleTooBroad",
    "Setup",
    "SetupFailed",
    "State",
    "Steered",
    "Wanted",
    "listening_flows",
    "plan",
    "prepare",
    "read",
    "restore",
]
