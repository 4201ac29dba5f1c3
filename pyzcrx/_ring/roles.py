"""What a ring knows of those that use it: requests, ifqs, and who looks at its columns."""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

from pyzcrx._lease import Account

NEVER = -1
"""In place of ns: no turn is wanted as long as nothing arrives."""


class Watcher(Protocol):
    """Turns the completions of one token, but for data, into events."""

    def _complete(self, res: int, flags: int) -> object:
        """One CQE; the last of the request when *flags* lacks F_MORE. Gives the event, or None."""

    def _drop(self, res: int) -> None:
        """One CQE that nobody will be told of: the ring is closing."""


class Operation(Watcher, Protocol):
    """A request in flight."""

    def _closed_by_ring(self) -> None:
        """The ring has gone: let go of what was held for the kernel."""


class Expiring(Protocol):
    """Looks at the columns of the last turn."""

    def _expire(self) -> None:
        """The next turn begins."""

    def _die(self) -> None:
        """This is a forked child: show nothing any more."""


class Child(Protocol):
    """An ifq, as its ring sees it; the first has slot 0."""

    account: Account

    @property
    def unrest(self) -> tuple[Sized, ...]:
        """Containers, always the same: while one has something, settle() has to do with it."""

    @property
    def parked(self) -> int:
        """Requests of its that wait to be armed again."""

    def settle(self) -> int:
        """Give buffers back and arm what can go on; before each turn.

        Gives how long the turn may wait at most, in ns, or NEVER.
        """

    @property
    def wait_ns(self) -> int:
        """How many ns it can go without a turn although nothing arrives, or NEVER."""

    def abandon(self) -> None:
        """Nothing is in flight on the ring and the caller would wait for ever: post
        the failure of what can only go on if somebody releases buffers."""

    def closed_by_ring(self) -> None:
        """The ring is about to go."""

    def die(self) -> None:
        """This is a forked child, without the memory of the areas."""
