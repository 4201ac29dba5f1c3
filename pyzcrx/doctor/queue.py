"""The receive queue in question: whether it is there, and who holds it."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Card, Facts
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.nic.drivers import driver_of
from pyzcrx.nic.state import Queue


def check(facts: Facts) -> Iterator[Finding]:
    card, index = facts.card, facts.queue
    if card is None or index is None:
        return
    state = card.state
    if state.rx_queues and index >= state.rx_queues:
        more = state.more_queues(index + 1)
        yield Finding(
            "queue.exists",
            Severity.PROBLEM,
            f"{state.interface} has no queue {index}: they are 0 to {state.rx_queues - 1}",
            "a registration is answered with ERANGE (mlx5: EOPNOTSUPP)",
            "choose one of them" + (f", or: {more}" if more else ""),
        )
        return
    if index in driver_of(state).fixed_queues:
        yield Finding(
            "queue.fixed",
            Severity.PROBLEM,
            f"queue {index} cannot be bound: {state.driver} never restarts it",
            "a registration is answered with ERANGE, and the kernel warns (docs/reference/"
            "kernel-bugs.md)",
            "choose another queue",
        )
        return
    queue = facts.queue_state
    if queue is not None:
        yield _holder(card, queue, chosen=facts.wanted.queue is None)


def _holder(card: Card, queue: Queue, *, chosen: bool) -> Finding:
    name = f"queue {queue.index}"
    if queue.holder is None:
        free = "is free" + (" (the last that is; choose with -q)" if chosen else "")
        return Finding("queue.holder", Severity.OK, f"{name} {free}")
    what, others = f"{name} is held by {queue.holder}", "or choose another queue"
    if queue.io_uring:
        return Finding(
            "queue.holder",
            Severity.PROBLEM,
            f"{what}{_by_whom(card)}",
            "a queue has one user; a registration is answered with EEXIST. One whose user just "
            "ended comes back in a moment",
            f"end that program, {others}",
        )
    if queue.dmabuf is not None:
        return Finding(
            "queue.holder",
            Severity.PROBLEM,
            what,
            "device memory (netdev bind-rx) and zcrx exclude each other: EEXIST",
            f"end that program, {others}",
        )
    if queue.xsk:
        return Finding(
            "queue.holder",
            Severity.PROBLEM,
            what,
            "an AF_XDP socket has the queue's memory; a registration is answered with EBUSY",
            f"end the AF_XDP program (ss -f xdp), {others}",
        )
    return Finding(
        "queue.lease",
        Severity.PROBLEM,
        what,
        "a leased queue is registered on the interface it was lent to; here the answer is "
        "EOPNOTSUPP (or EBUSY)",
        f"register there, {others}",
    )


def _by_whom(card: Card) -> str:
    """Nobody tells which ring a queue is bound to: processes with a waiting RECV_ZC it is."""
    receiving = [user for user in card.ring_users if user.receiving]
    users = receiving or list(card.ring_users)
    if not users:
        return ", by a process that cannot be seen" if card.unseen_processes else ""
    word = "likely by" if receiving else "maybe by"
    listed = ", ".join(f"{user.name} ({user.pid})" for user in users[:3])
    return f", {word} {listed}" + (" or others" if len(users) > 3 else "")
