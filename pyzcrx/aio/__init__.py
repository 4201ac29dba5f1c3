"""asyncio on a ring: programs for asyncio receive by zcrx.

Not imported by :mod:`pyzcrx` itself, since asyncio takes long to import. Start at
:func:`loop_factory`, or, on a loop of others, at :class:`Attachment`.
"""

from pyzcrx.aio.loop import EventLoop, loop_factory
from pyzcrx.aio.protocol import LeaseProtocol
from pyzcrx.aio.selector import RingSelector

__all__ = ["EventLoop", "LeaseProtocol", "RingSelector", "loop_factory"]
