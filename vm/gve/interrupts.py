"""Interrupts of a NIC: each notify block's fires once, until the driver arms it again.

gve_main.c:gve_intr_dqo() masks nothing and only schedules NAPI; gve_napi_poll_dqo() arms the
block by its doorbell when it is done. What happened between fires at the arming, or the
driver would sleep on it.
"""

from __future__ import annotations

from collections.abc import Callable

ARM = 1
"""GVE_ITR_ENABLE_BIT_DQO of the doorbell."""


class Interrupts:
    """Blocks are numbered from 0, as the driver's."""

    def __init__(self) -> None:
        self.fire: Callable[[int], None] = lambda _vector: None
        """Raises one in the guest."""
        self._armed: set[int] = set()
        self._pending: set[int] = set()
        self._raised: set[int] = set()
        self.blocks = 0
        """The management interrupt has the number behind the last block."""
        self.fired = 0

    def configure(self, blocks: int) -> None:
        """As the driver has them from now on, none armed."""
        self.blocks = blocks
        self._armed.clear()
        self._pending.clear()
        self._raised.clear()

    def arm(self, block: int, value: int) -> None:
        """The driver wrote to the block's doorbell."""
        if value & ARM:
            self._armed.add(block)
            if block in self._pending:
                self._pending.discard(block)
                self._raised.add(block)

    def want(self, block: int) -> None:
        """Something happened; it fires at the next :meth:`flush`."""
        self._raised.add(block)

    def flush(self) -> None:
        """One interrupt for all that happened since the last flush."""
        for block in self._raised:
            if block in self._armed:
                self._armed.discard(block)
                self.fired += 1
                self.fire(block)
            else:
                self._pending.add(block)
        self._raised.clear()

    def manage(self) -> None:
        """Have the driver read its device status (gve_main.c:gve_mgmnt_intr())."""
        if self.blocks:
            self.fire(self.blocks)
