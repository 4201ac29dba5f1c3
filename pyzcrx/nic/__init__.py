"""The network card: read, set up for zcrx, put back.

``read()`` gives a card's :class:`State`. Needs pyroute2; nothing else of pyzcrx does.
"""

from pyzcrx.nic.flow import Flow
from pyzcrx.nic.read import Reader, read
from pyzcrx.nic.state import Irq, Lease, Napi, Queue, Rings, Rss, Rule, State

__all__ = [
    "Flow",
    "Irq",
    "Lease",
    "Napi",
    "Queue",
    "Reader",
    "Rings",
    "Rss",
    "Rule",
    "State",
    "read",
]
