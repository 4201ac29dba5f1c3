"""``--cpu`` and ``--busy-poll`` of the commands that receive."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pyzcrx._kernel.cpus import check_allowed
from pyzcrx._ring.napi import MAX_BUSY_POLL_US
from pyzcrx.cli.values import CPU, Number
from pyzcrx.errors import BadArgument
from pyzcrx.placement import Mode, Tally, choose, pin
from pyzcrx.ring import Ring

if TYPE_CHECKING:
    ParamType = click.ParamType[Mode | int]
else:
    ParamType = click.ParamType  # not generic before click 8.2


_MODES: dict[str, Mode] = {"same": "same", "other": "other"}


class Cpu(ParamType):
    """``same``, ``other`` or a CPU's number."""

    name = "same|other|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Mode | int:
        text = str(value)
        if text in _MODES:
            return _MODES[text]
        if not text.isdecimal():
            self.fail(f"{value!r} is neither same, other nor the number of a CPU", param, ctx)
        number: int = CPU.convert(text, param, ctx)
        return number


def placement_options(command: Callable[..., None]) -> Callable[..., None]:
    """The two options, as ``cpu`` and ``busy_poll_us``."""
    for option in (
        click.option(
            "--busy-poll",
            "busy_poll_us",
            type=Number(0, MAX_BUSY_POLL_US),
            default=0,
            metavar="US",
            help="Poll the NIC that many microseconds before sleeping.",
        ),
        click.option(
            "--cpu",
            type=Cpu(),
            help="Run on the CPU of the queue's interrupt, on others, or on that one.",
        ),
    ):
        command = option(command)
    return command


def check_cpu(cpu: Mode | int | None) -> None:
    """Raises BadArgument for a CPU that cannot be run on, before anything is set up for it."""
    if isinstance(cpu, int):
        check_allowed({cpu})


def place(
    ring: Ring, cpu: Mode | int | None, busy_poll_us: int, interface: str | None, queue: int | None
) -> Tally:
    """Pin this thread and set busy polling, as asked; gives what to note connections in.

    Raises BadArgument, NotSupported.
    """
    if cpu is not None:
        softirq: frozenset[int] = frozenset()
        if isinstance(cpu, str):
            if interface is None or queue is None:
                raise BadArgument(f"--cpu {cpu} is beside a NIC's interrupt; give -i")
            softirq = _softirq_cpus(interface, queue)
        pin(choose(cpu, softirq, os.sched_getaffinity(0)))
    if busy_poll_us:
        ring.register_napi(busy_poll_us)
    return Tally(busy_poll_us=busy_poll_us)


def _softirq_cpus(interface: str, queue: int) -> frozenset[int]:
    """Where the queue's packets are processed: by its NAPI thread or its interrupt."""
    # Only here: who uses no NIC needs no pyroute2, and its import is slow.
    from pyzcrx.nic.irq import parse_cpus
    from pyzcrx.nic.read import read

    state = read(interface)
    napi, irq = state.napi_of(queue), state.irq_of(queue)
    if napi is not None and napi.threaded and napi.pid is not None:
        return frozenset(os.sched_getaffinity(napi.pid))
    return parse_cpus(irq.effective_cpus) if irq is not None else frozenset()
