"""The steps of a set-up: plain data that can be done, found again, and undone.

Each is written to the journal before it is done. ``do`` gives the step as it turned out;
``undo`` puts back what the step changed and nothing else: what somebody else changed in the
meantime is left and said.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyzcrx.errors import KernelError, SetupFailed
from pyzcrx.nic import settings
from pyzcrx.nic.flow import Flow
from pyzcrx.nic.ntuple import Ntuple
from pyzcrx.nic.read import Reader
from pyzcrx.nic.settings import Value


@dataclass(frozen=True, slots=True)
class Set:
    """One setting gets a value.

    seen is what could be read before, before what to put back: they differ where
    the kernel does not let the setting be read (tcp-data-split) or where a value
    stands for "as the kernel likes" (rss: None).
    """

    key: str
    before: Value
    after: Value
    seen: Value

    @property
    def holds(self) -> str:
        """What two programs may both want of a NIC."""
        return self.key

    @property
    def idle(self) -> bool:
        """Whether it is so already; it is held all the same."""
        return bool(self.before == self.after)

    def check(self) -> None:
        """Raises ValueError for values that no step of ours has, as in a damaged journal."""
        settings.check(self.key, self.before, self.after, self.seen)

    def command(self, interface: str) -> str:
        return settings.command(interface, self.key, self.after)

    def do(self, kernel: Reader, ifindex: int) -> Set:
        changed = settings.change(kernel, ifindex, self.key, self.after)
        now = settings.current(kernel, ifindex, self.key)
        if now != self.after:
            raise SetupFailed(
                f"{self.key}: the NIC took {_text(self.after)} without an error and says "
                f"{_text(now)}",
                "see dmesg; the driver or another setting does not allow it",
            )
        if self.key == "tcp-data-split" and not changed:
            # It had been asked for before us.
            return replace(self, before=self.after)
        return self

    def undo(self, kernel: Reader, ifindex: int) -> str | None:
        now = settings.current(kernel, ifindex, self.key)
        if self.idle or now == self.seen != self.after:
            return None
        if now != self.after:
            return f"{self.key} was changed meanwhile to {_text(now)}: left so"
        if self.key == "feature:rx-ntuple-filter" and (Ntuple(ifindex).rules() or ((), 0))[0]:
            return "ntuple filters stay on: others have rules, which would go with them"
        settings.change(kernel, ifindex, self.key, self.before)
        now = settings.current(kernel, ifindex, self.key)
        if now != self.seen and self.key == "tcp-data-split":
            # Not the driver's own choice, then, but asked for.
            settings.change(kernel, ifindex, self.key, self.seen)
            now = settings.current(kernel, ifindex, self.key)
        if now != self.seen:
            return f"{self.key} was put back to {_text(self.before)} and reads {_text(now)} now"
        return None

    def inherit(self, earlier: Set) -> Set:
        """For a program that stays when *earlier*'s goes: it is to put back what that found."""
        return replace(self, before=earlier.before, seen=earlier.seen)


@dataclass(frozen=True, slots=True)
class Context:
    """An RSS context of our own."""

    number: int
    table: tuple[int, ...]

    def check(self) -> None:
        """Raises ValueError for what cannot be one."""
        _check_numbers(self.number, *self.table)

    def command(self, interface: str) -> str:
        return f"ethtool -X {interface} context new {settings.spread(list(self.table))}"

    def do(self, kernel: Reader, ifindex: int) -> Context:
        kernel._ethtool.create_rss_context(ifindex, self.number, self.table)
        return self

    def undo(self, kernel: Reader, ifindex: int) -> str | None:
        now = {rss.context: rss.table for rss in kernel._ethtool.rss(ifindex)}.get(self.number)
        if now is None:
            return None
        if now != self.table:
            return f"RSS context {self.number} was changed meanwhile: left so"
        kernel._ethtool.delete_rss_context(ifindex, self.number)
        return None


@dataclass(frozen=True, slots=True)
class Steer:
    """A flow to a queue, or over a context. location: known once it is done."""

    flow: str
    queue: int
    context: int | None = None
    location: int | None = None

    def check(self) -> None:
        """Raises ValueError for what cannot be a rule."""
        Flow.parse(self.flow)
        _check_numbers(self.queue, self.context or 0, self.location or 0)

    def command(self, interface: str) -> str:
        action = f"action {self.queue}" if self.context is None else f"context {self.context}"
        return f"ethtool -N {interface} {Flow.parse(self.flow).ethtool()} {action}"

    def do(self, kernel: Reader, ifindex: int) -> Steer:
        del kernel
        rules = Ntuple(ifindex)
        location = rules.insert(Flow.parse(self.flow), queue=self.queue, context=self.context)
        done = replace(self, location=location)
        if location not in done.found(rules):
            raise SetupFailed(
                f"rule for {self.flow}: the NIC took it and does not show it at {location}",
                "see dmesg",
            )
        return done

    def found(self, rules: Ntuple) -> set[int]:
        """Where rules like this one are."""
        present = rules.rules()
        return {
            rule.location
            for rule in (present[0] if present else ())
            if (rule.flow, rule.queue, rule.context) == (self.flow, self.queue, self.context)
        }

    def undo(self, kernel: Reader, ifindex: int) -> str | None:
        del kernel
        rules = Ntuple(ifindex)
        places = self.found(rules)
        if self.location is not None:
            if self.location not in places:
                return f"the rule for {self.flow} at {self.location} is gone or another's already"
            places = {self.location}
        for location in places:
            try:
                rules.delete(location)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
        return None


Step = Set | Context | Steer
KINDS: dict[str, type[Any]] = {"set": Set, "context": Context, "steer": Steer}


def kind_of(step: Step) -> str:
    """Its name in a journal."""
    return next(name for name, kind in KINDS.items() if type(step) is kind)


def undo_order(steps: Sequence[Step]) -> list[int]:
    """The steps' places as they are to be undone: the last first, but interrupts after all.

    The stack learns of an interrupt's new CPUs a moment later; a queue that restarts
    before that, as for header split, gets the old ones again (7.3, ``net/core/dev.c``:
    ``netif_napi_set_irq_locked()`` drops the news, ``napi_restore_config()`` sets them).
    """

    def turn(at: int) -> tuple[bool, int]:
        step = steps[at]
        return isinstance(step, Set) and settings.is_interrupt(step.key), -at

    return sorted(range(len(steps)), key=turn)


def _check_numbers(*numbers: int) -> None:
    if not all(0 <= number < 1 << 32 for number in numbers):
        raise ValueError("a number that a NIC does not have")


def _text(value: Value) -> str:
    if value is None or isinstance(value, list):
        return settings.spread(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
