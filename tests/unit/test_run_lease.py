"""A run as one lease: what it counts, how it goes back, and what it becomes."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import pytest

from pyzcrx._kernel.memory import PAGE
from pyzcrx._lease import Descriptor, RunLease, expand
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.chunks import Chunks
from tests.unit.test_turn import ALL_ONES, Inbox, Leased, queue_of

OFFS = [0, 200, 100]


def leased(core: Leased, offs: list[int]) -> list[Any]:
    """What the inbox has after a turn that brought one run."""
    incoming: list[Any] = []
    core.brought((core.read(Inbox(incoming)).token, offs))
    assert core.count()
    core.lease_runs([])
    return incoming


def counts(core: Leased) -> tuple[int, ...]:
    """Given, leased, buffers of the account; leases of the memory; what waits to go back."""
    [account] = core.accounts
    return (
        account.given,
        account.leased,
        account.buffers,
        core.memory.span._leases,
        account.count,
    )


def test_a_run_is_one_lease_on_each_of_its_entries() -> None:
    core = Leased()
    [run] = leased(core, OFFS)
    assert isinstance(run, RunLease)
    assert (run.count, len(run), run.off, run.copied, run.released) == (3, 300, 0, False, False)
    assert counts(core) == (0, 3, 3, 3, 0)
    assert core.accounts[0].oldest(-1) == [run]
    assert core.accounts[0].held(run.token) == 300
    assert run.since_ns == 77
    assert list(core.columns.offs[:3]) == [ALL_ONES] * 3


def let_go(core: Leased, runs: list[RunLease]) -> None:
    for _ in range(2):
        runs[0]._let_go()
        assert runs[0].released
    assert core.accounts[0].forgotten == 0


def forget(core: Leased, runs: list[RunLease]) -> None:
    runs.clear()
    gc.collect()
    assert core.accounts[0].forgotten == 3


@pytest.mark.parametrize("end", [let_go, forget])
def test_all_of_it_goes_back_once(end: Callable[[Leased, list[RunLease]], None]) -> None:
    core = Leased()
    runs = leased(core, OFFS)
    end(core, runs)
    assert counts(core) == (3, 0, 0, 0, 3)
    assert core.accounts[0].returned() == OFFS
    assert core.accounts[0].oldest(-1) == []
    assert sum(core.accounts[0].histogram) == 3


def test_it_goes_into_the_refill_queue_at_once_as_far_as_that_has_room() -> None:
    core = Leased()
    [account] = core.accounts
    rq = queue_of(account, 4)
    first, second = (leased(core, offs) for offs in (OFFS, [300, 500, 400]))
    first[0]._let_go()
    assert [rq.view[i, 0] for i in range(rq.pending)] == OFFS
    second[0]._let_go()
    assert (rq.view[3, 0], account.returned()) == (300, [500, 400])
    assert (account.given, account.leased, account.pushed, account.count) == (6, 0, 4, 2)


def test_none_overtakes_what_waits_for_the_refill_queue() -> None:
    core = Leased()
    [account] = core.accounts
    waiting, run = leased(core, [700]), leased(core, OFFS)
    waiting[0].release()
    rq = queue_of(account, 8)
    run[0]._let_go()
    assert (rq.pending, account.returned()) == (0, [700, *OFFS])
    assert account.push() == 4
    assert [rq.view[i, 0] for i in range(4)] == [700, *OFFS]


def test_a_forked_child_leaves_the_refill_queue_alone() -> None:
    core = Leased()
    [account] = core.accounts
    rq = queue_of(account, 8)
    [run] = leased(core, OFFS)
    account.orphaned = True
    run._let_go()
    assert (rq.pending, account.returned()) == (0, OFFS)


def test_who_waits_for_its_return_is_told_once_a_turn() -> None:
    core = Leased()
    [account] = core.accounts
    queue_of(account, 8)
    account.signal = Descriptor(os.eventfd(0, os.EFD_NONBLOCK), adopt=True)
    runs = [leased(core, [at, at + 100])[0] for at in (0, 200, 400)]
    runs[0]._let_go()
    runs[1]._let_go()
    assert os.eventfd_read(account.signal.number) == 1
    account.settle()  # as the next turn does
    runs[2]._let_go()
    assert os.eventfd_read(account.signal.number) == 1


def test_it_becomes_buffers_in_its_place() -> None:
    core = Leased()
    pieces = leased(core, OFFS)
    before, after = leased(core, [700]), leased(core, [800, 900])
    run = pieces[0]
    pieces[:0] = [memoryview(b"x")]
    pieces += after
    expand(pieces)
    assert [each.off for each in pieces[1:]] == [*OFFS, 800, 900]
    assert all(type(each) is Buffer for each in pieces[1:])
    assert [each.off for each in core.accounts[0].oldest(-1)] == [*OFFS, 700, 800, 900]
    assert {each.since_ns for each in pieces[1:]} == {77}
    assert counts(core) == (0, 6, 6, 6, 0)
    assert run.released
    run._let_go()
    expand([run])
    assert counts(core) == (0, 6, 6, 6, 0)
    before[0].release()
    for each in pieces[1:]:
        each.release()
    assert counts(core) == (6, 0, 0, 0, 6)


def test_what_was_given_back_becomes_nothing() -> None:
    core = Leased()
    pieces = leased(core, OFFS)
    pieces[0]._let_go()
    expand(pieces)
    assert pieces == []
    with pytest.raises(TypeError):
        expand(())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        RunLease()


@pytest.mark.parametrize(
    "offs", [[0], [0, ALL_ONES], [ALL_ONES, 0]], ids=["alone", "one is taken", "the first is"]
)
def test_what_is_no_whole_run_is_a_buffer_each(offs: list[int]) -> None:
    core = Leased()
    assert [type(each) for each in leased(core, offs)] == [Buffer]


@pytest.mark.parametrize("bad", [4 * PAGE - 99, 1 << 48, 1 << 63])
def test_a_place_outside_the_area_is_no_part_of_it(bad: int) -> None:
    core = Leased()
    incoming = leased(core, [0, bad, 100])
    assert [type(each) for each in incoming] == [Buffer]
    assert list(core.columns.offs[:3]) == [ALL_ONES, bad, 100]


def test_what_must_be_copied_is_a_buffer_each() -> None:
    core = Leased()
    core.accounts[0].copy_above = 2
    assert [each.copied for each in leased(core, OFFS)] == [True, False, False]


def test_it_outlives_its_account_and_memory() -> None:
    core = Leased()
    core.memory.view[:300] = b"a" * 100 + b"b" * 100 + b"c" * 100
    pieces = leased(core, OFFS)
    core.memory.close()
    del core
    gc.collect()
    expand(pieces)
    assert b"".join(pieces) == b"a" * 100 + b"c" * 100 + b"b" * 100


def spilled(chunks: Chunks) -> bytes:
    chunks.spill()
    return chunks.read(300)


READS: dict[str, Callable[[Chunks], object]] = {
    "read": lambda chunks: chunks.read(300),
    "take": lambda chunks: bytes(chunks.take(100)) + bytes(chunks.take(200)),
    "chunk": lambda chunks: b"".join(chunks.next_chunk().views()),
    "chunk bytes": lambda chunks: bytes(chunks.next_chunk()),
    "chunk take": lambda chunks: bytes(chunks.next_chunk().take(300)),
    "until": lambda chunks: bytes(chunks.take_until(b"b" * 100) or b""),
    "spilled": spilled,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_readers_see_its_bytes(read: Callable[[Chunks], object]) -> None:
    core = Leased()
    core.memory.view[:300] = b"a" * 100 + b"b" * 100 + b"c" * 100
    chunks = Chunks()
    core.brought((core.read(chunks).token, OFFS))
    assert core.count()
    core.lease_runs([])
    assert (chunks.nbytes, chunks.buffers) == (300, 3)
    assert read(chunks) == b"a" * 100 + b"c" * 100 + b"b" * 100
    del chunks
    gc.collect()
    assert counts(core) == (3, 0, 0, 0, 3)


def test_a_chunk_that_is_released_unseen_makes_no_buffers() -> None:
    core = Leased()
    chunks = Chunks()
    core.brought((core.read(chunks).token, OFFS))
    assert core.count()
    core.lease_runs([])
    [run] = core.accounts[0].oldest(-1)
    chunk = chunks.next_chunk()
    assert core.accounts[0].oldest(-1) == [run]
    assert len(chunk) == 300
    chunk.release()
    assert counts(core) == (3, 0, 0, 0, 3)


@pytest.mark.parametrize("way", ["cleared", "too many"])
def test_a_run_that_nobody_reads_goes_back(way: str) -> None:
    core = Leased()
    chunks = Chunks()
    core.brought((core.read(chunks).token, OFFS))
    assert core.count()
    core.lease_runs([])
    if way == "cleared":
        chunks.clear()
    else:
        chunks.most_buffers = 2
        chunks.relieve()
    assert counts(core) == (3, 0, 0, 0, 3)
    assert (chunks.nbytes, chunks.spilled_bytes) == ((0, 0) if way == "cleared" else (300, 300))
