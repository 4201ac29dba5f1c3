"""What single drivers need before header split, and their limits; from Linux 7.3's sources.

See docs/how-to/nic.md for where each is from, and which were tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyzcrx.nic.settings import Value
from pyzcrx.nic.state import State


@dataclass(frozen=True, slots=True)
class Driver:
    """prelude: settings that come first; notes: what to know about it."""

    prelude: tuple[tuple[str, Value], ...] = ()
    notes: tuple[str, ...] = ()


DRIVERS = {
    "bnxt_en": Driver(),
    "fbnic": Driver(),
    "gve": Driver(
        notes=("gve needs the DQO RDA queue format, and a VM shape whose device has header split",)
    ),
    "mlx5_core": Driver(
        prelude=(("private-flag:rx_cqe_compress", False), ("feature:rx-gro-hw", True)),
    ),
    "netdevsim": Driver(notes=("netdevsim has the controls of zcrx and cannot receive by it",)),
    "netkit": Driver(notes=("netkit receives on a queue leased from a real NIC",)),
    "zcrxsim": Driver(),
}


def driver_of(state: State) -> Driver:
    """What is known of the NIC's driver."""
    known = DRIVERS.get(state.driver or "")
    if known is not None:
        return known
    return Driver(
        notes=(
            f"driver {state.driver or 'unknown'} is not known for zcrx "
            f"(known: {', '.join(sorted(DRIVERS))}); registration may be refused",
        )
    )


def prelude(state: State) -> tuple[tuple[str, Value], ...]:
    """The driver's settings that this NIC has."""
    has = {f"private-flag:{name}" for name in state.private_flags}
    has |= {f"feature:{name}" for name in state.features}
    return tuple((key, value) for key, value in driver_of(state).prelude if key in has)
