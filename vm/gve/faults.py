"""What can go wrong with a NIC, and how much of it is set."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields

MILLION = 1_000_000


class NoSuchFault(Exception):
    """Neither a fault nor a value for it."""


@dataclass
class Faults:
    """Of the frames that a NIC is sent, and of itself. Rates are of a million frames."""

    drop: int = 0
    corrupt: int = 0
    """One bit of the payload is another."""
    late: int = 0
    late_ms: int = 20
    """How long a late frame takes; those behind it overtake it."""
    starve: int = 0
    """1: no rx queue has a buffer."""
    hang: int = 0
    """So many commands of the admin queue, from now on, are never answered; -1: all."""
    refuse: int = 0
    """So many commands that create a queue fail."""
    overflow: int = 0
    """1: the headers of the next split frame do not fit (see docs/reference/gve.md)."""
    seed: int = field(default=1)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def set(self, wanted: dict[str, object]) -> None:
        """All of these or, if one is wrong, none."""
        names = {each.name for each in fields(self)}
        for name, value in wanted.items():
            if name not in names:
                raise NoSuchFault(f"no fault {name!r}: there are {', '.join(sorted(names))}")
            if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value <= MILLION:
                raise NoSuchFault(f"{name} is a number from -1 to {MILLION}, not {value!r}")
        for name, value in wanted.items():
            setattr(self, name, value)
        self.random = random.Random(self.seed)

    def clear(self) -> None:
        self.set(asdict(Faults()))

    @property
    def of_frames(self) -> bool:
        """Whether each frame has a fate of its own."""
        return bool(self.drop or self.corrupt or self.late)

    def strikes(self, rate: int) -> bool:
        return bool(rate) and self.random.randrange(MILLION) < rate
