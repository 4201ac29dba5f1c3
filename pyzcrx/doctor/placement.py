"""Placement: the queue's interrupt, its NAPI instance, the NIC's NUMA node, our CPUs."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts, Machine
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.nic.irq import parse_cpus
from pyzcrx.nic.state import Irq, Napi, State


def check(facts: Facts) -> Iterator[Finding]:
    if facts.card is None or facts.queue is None:
        return
    state = facts.card.state
    napi, irq = state.napi_of(facts.queue), state.irq_of(facts.queue)
    if irq is None or not irq.effective_cpus:
        yield Finding(
            "placement.irq",
            Severity.UNKNOWN,
            f"on which CPU packets of queue {facts.queue} are processed cannot be read",
            "receiver and interrupt on one CPU slow each other down, or save a wake-up",
        )
    else:
        yield from _irq(facts.machine, state, irq)
    if napi is not None:
        yield _napi(napi)
    yield from _node(facts.machine, state)


def _irq(machine: Machine, state: State, irq: Irq) -> Iterator[Finding]:
    cpus = parse_cpus(irq.effective_cpus)
    where = f"IRQ {irq.number} of the queue runs on CPU {irq.effective_cpus}"
    if machine.cpus and machine.cpus <= cpus:
        yield Finding(
            "placement.irq",
            Severity.WARNING,
            f"{where}, the only one that this process may use",
            "receiving then takes turns with the interrupt; two CPUs give a third more",
            f"taskset -c CPU, or: echo CPU > /proc/irq/{irq.number}/smp_affinity_list",
        )
    else:
        yield Finding("placement.irq", Severity.OK, where)
    near = machine.nodes.get(state.numa_node) if state.numa_node is not None else None
    if near and not cpus & near:
        yield Finding(
            "placement.irq_node",
            Severity.WARNING,
            f"{where}, off the NIC's NUMA node {state.numa_node}",
            "each packet's headers cross between the nodes",
            f"echo {min(near)} > /proc/irq/{irq.number}/smp_affinity_list",
        )


def _napi(napi: Napi) -> Finding:
    how = {0: "softirq", 1: "a thread", 2: "a thread that polls busily"}[napi.threaded]
    what = f"NAPI {napi.id}: {how}"
    if napi.pid is not None:
        what += f" (pid {napi.pid})"
    if napi.defer_hard_irqs:
        what += (
            f", {napi.defer_hard_irqs} interrupts deferred, gro-flush-timeout "
            f"{napi.gro_flush_timeout_ns // 1000} us"
        )
    if napi.irq_suspend_timeout_ns:
        what += f", irq-suspend-timeout {napi.irq_suspend_timeout_ns // 1000} us"
    return Finding("placement.napi", Severity.OK, what)


def _node(machine: Machine, state: State) -> Iterator[Finding]:
    near = machine.nodes.get(state.numa_node) if state.numa_node is not None else None
    if near is None or len(machine.nodes) < 2:
        return
    if machine.cpus & near:
        yield Finding(
            "placement.node",
            Severity.OK,
            f"this process may run on the NIC's node {state.numa_node}",
        )
    else:
        yield Finding(
            "placement.node",
            Severity.WARNING,
            f"this process may not run on the NIC's NUMA node {state.numa_node}",
            "the area lies where the process first touches it: the NIC then writes to far memory",
            f"numactl --cpunodebind={state.numa_node} --membind={state.numa_node} PROGRAM",
        )
