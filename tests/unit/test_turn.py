"""What a turn brought, counted, and what of it goes back; the roster that finds whose it is."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pyzcrx._kernel._ffi import ffi, lib
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._lease import Account, Core, Data, Receiver, Shared, Turn
from pyzcrx._queue.buffer import Buffer
from pyzcrx._queue.refill import RefillQueue, region_bytes
from pyzcrx._receive.protocol import ReceiveProtocol
from pyzcrx._ring.columns import COUNTED, DRAINED, FRESH, Columns
from pyzcrx._ring.pace import Pace
from pyzcrx._ring.tokens import TOKEN_IFQ_MASK, TOKEN_IFQ_SHIFT, TOKEN_RECEIVE

ALL_ONES = (1 << 64) - 1


class Turned(Core):
    """A ring as far as counting needs one, with Receivers and Accounts."""

    kept: Receiver

    def __init__(self, ifqs: int = 1) -> None:
        self.columns = Columns(64)
        raw = ffi.from_buffer("struct pz_ring *", self.shared)
        pace = Pace(1000, 64)
        self.use(self.columns.turn, pace, {}, {}, raw, self.columns.raw)
        self.accounts.extend(Account() for _ in range(ifqs))

    def receiver(self, ifq: int = 0, *, armed: bool = True) -> Receiver:
        made = Receiver(ReceiveProtocol())
        self.enlist(made, ifq)
        self.set_armed(made, armed)
        return made

    def brought(self, *runs: tuple[int, list[int]]) -> None:
        """A turn brought these runs: token, and offs of 100 bytes each."""
        raw = self.columns.raw
        raw.n_data = raw.n_runs = 0
        raw.fresh, raw.now_ns = DRAINED, 77
        for run, (of, offs) in enumerate(runs):
            raw.run_token[run] = of
            raw.run_bytes[run] = 100 * len(offs)
            for off in offs:
                raw.token[raw.n_data], raw.off[raw.n_data], raw.len[raw.n_data] = of, off, 100
                raw.n_data += 1
            raw.n_runs += 1
            raw.run_start[raw.n_runs] = raw.n_data


@pytest.mark.parametrize("make", [Turned, lambda: Turn(64)])
def test_what_the_shim_has_is_kept_and_not_for_python_to_write(make: Callable[[], Any]) -> None:
    owner = make()
    shared = owner.shared
    view = memoryview(shared)
    before = bytes(view)
    assert view.readonly
    assert any(before)
    raw = ffi.from_buffer("char *", shared)
    del owner, shared, view
    gc.collect()
    assert ffi.buffer(raw, len(before))[:] == before
    with pytest.raises(BufferError):
        ffi.from_buffer("char[]", make().shared, require_writable=True)
    with pytest.raises(TypeError):
        Shared()


def queue_of(account: Account, entries: int) -> RefillQueue:
    rq = RefillQueue(Mapping.anonymous(region_bytes(entries)), entries, head=0, tail=4, rqes=64)
    account.rq = rq._shared
    return rq


def test_each_run_counts_once_for_its_request_and_its_ifq() -> None:
    core = Turned(ifqs=2)
    a, b, c = core.receiver(), core.receiver(1), core.receiver()
    a._protocol.fruitless = 2
    core.brought((a.token, [0, 1]), (b.token, [2]), (a.token, [3]), (c.token, [4, 5, 6]))
    for _ in range(2):  # as after a signal
        assert core.count()
        assert core.columns.counts[FRESH] == COUNTED
        assert core.receivers == [a, b, a, c]
        assert [each._protocol.received for each in (a, b, c)] == [300, 100, 300]
        assert [(each.taken, each.leased, each.bytes) for each in core.accounts] == [
            (6, 6, 600),
            (1, 1, 100),
        ]
    assert a._protocol.fruitless == 0
    assert core.accounts[0].now_ns == 77


def unknown(core: Turned, mine: Receiver) -> int:  # noqa: ARG001
    return mine.token + 1


def of_an_earlier_owner(core: Turned, mine: Receiver) -> int:  # noqa: ARG001
    gone = core.receiver()
    token = gone.token
    core.set_armed(gone, False)
    del gone
    core.receiver()  # has its slot
    return token


def not_armed(core: Turned, mine: Receiver) -> int:  # noqa: ARG001
    core.kept = core.receiver(armed=False)
    return core.kept.token


def without_a_protocol(core: Turned, mine: Receiver) -> int:  # noqa: ARG001
    bare = Receiver()
    core.enlist(bare, 0)
    core.set_armed(bare, True)
    return bare.token


def of_no_ifq(core: Turned, mine: Receiver) -> int:  # noqa: ARG001
    return core.receiver(7).token


def of_another_kind(core: Turned, mine: Receiver) -> int:  # noqa: ARG001
    return int(mine.token & ~TOKEN_RECEIVE)


@pytest.mark.parametrize(
    "other",
    [unknown, of_an_earlier_owner, not_armed, without_a_protocol, of_no_ifq, of_another_kind],
)
def test_a_run_that_is_nobodys_counts_for_nobody(other: Callable[[Turned, Receiver], int]) -> None:
    core = Turned()
    mine = core.receiver()
    core.brought((mine.token, [0]), (other(core, mine), [1]))
    assert not core.count()
    assert core.columns.counts[FRESH] == DRAINED
    assert (core.accounts[0].taken, core.accounts[0].bytes) == (0, 0)
    assert mine._protocol.received == 0


def test_no_token_is_used_twice_and_slots_are() -> None:
    core = Turned()
    tokens: set[int] = set()
    for i in range(1000):
        made = [core.receiver(i % 3) for _ in range(i % 7)]
        tokens.update(each.token for each in made)
        for each in made:
            core.set_armed(each, False)
    assert len(tokens) == sum(i % 7 for i in range(1000))
    slots = {token & (1 << int(lib.PZ_TOKEN_REQUEST_BITS)) - 1 for token in tokens}
    assert slots <= set(range(12)), "those of one round live while the next are made"
    assert {(token & TOKEN_IFQ_MASK) >> TOKEN_IFQ_SHIFT for token in tokens} == {0, 1, 2}


def test_a_receiver_has_one_token_of_one_ring() -> None:
    core, other = Turned(), Turned()
    mine = core.receiver()
    for receiver, ifq in ((mine, 0), (Receiver(), -1), (Receiver(), 1 << 15)):
        with pytest.raises(ValueError, match="it has a token"):
            core.enlist(receiver, ifq)
    for ring, receiver in ((other, mine), (core, Receiver())):
        with pytest.raises(ValueError, match="it is of no ring"):
            ring.set_armed(receiver, True)
    core.set_armed(object(), True)  # nothing that brings data


def test_an_armed_receiver_lives_and_outlives_its_ring() -> None:
    class Kept(Receiver):
        __slots__ = ("__weakref__",)

    core = Turned()
    made = Kept(ReceiveProtocol())
    core.enlist(made, 0)
    core.set_armed(made, True)
    alive = weakref.ref(made)
    token = made.token
    del made
    gc.collect()
    assert alive() is not None
    last = alive()
    del core
    gc.collect()
    assert last is not None
    assert last.token == token
    del last
    assert alive() is None


def test_a_receiver_keeps_its_protocol_and_no_longer() -> None:
    class Protocol(ReceiveProtocol):
        __slots__ = ("__weakref__",)

    with pytest.raises(AttributeError):
        _ = Receiver()._protocol
    made = Receiver(Protocol())
    left = weakref.ref(made._protocol)
    gc.collect()
    assert left() is not None
    del made
    assert left() is None


def test_what_was_not_taken_goes_back_to_its_own_refill_queue() -> None:
    core = Turned(ifqs=2)
    accounts, columns = core.accounts, core.columns
    first, second = (queue_of(account, 8) for account in accounts)
    for account in accounts:
        account.take(3)
    a, b, c = core.receiver(), core.receiver(), core.receiver(1)
    core.brought((a.token, [1, ALL_ONES]), (b.token, [3]), (c.token, [4]))
    for _ in range(2):  # as after a signal: what went back is marked
        core.give_back()
        assert [first.view[i, 0] for i in range(first.pending)] == [1, 3]
        assert [second.view[i, 0] for i in range(second.pending)] == [4]
        assert list(columns.offs[:4]) == [ALL_ONES] * 4
        assert [(each.leased, each.given, each.pushed, each.count) for each in accounts] == [
            (1, 2, 2, 0),
            (2, 1, 1, 0),
        ]
    assert [sum(account.histogram) for account in accounts] == [2, 1]


def test_it_waits_where_the_refill_queue_is_full_and_none_overtakes() -> None:
    core = Turned()
    [account] = core.accounts
    rq, mine = queue_of(account, 4), core.receiver()
    account.take(8)
    core.brought((mine.token, [0, 1, 2, 3, 4, 5]))
    core.give_back()
    assert [rq.view[i, 0] for i in range(4)] == [0, 1, 2, 3]
    assert account.returned() == [4, 5]
    ffi.cast("uint32_t *", rq._mapping.address)[0] = 3  # the kernel takes three
    core.brought((mine.token, [6, 7]))
    core.give_back()
    assert account.returned() == [4, 5, 6, 7]
    assert account.push() == 4
    assert [rq.view[i % 4, 0] for i in range(3, 7)] == [3, 4, 5, 6]
    assert (account.pushed, account.count, account.leased) == (7, 1, 0)


def test_runs_of_no_ifq_go_nowhere() -> None:
    core = Turned()
    core.brought((core.receiver(3).token, [7]))
    core.give_back()
    assert core.columns.offs[0] == 7  # not marked as given back


class Read(Receiver):
    """As a request: with an inbox, or without one."""

    __slots__ = ()

    def __init__(self, inbox: object = None) -> None:
        super().__init__(ReceiveProtocol())
        self._inbox = inbox


class Inbox:
    def __init__(self, incoming: object) -> None:
        self.incoming = incoming


class Leased(Turned):
    """And with memory that leases are on."""

    def __init__(self, ifqs: int = 1) -> None:
        super().__init__(ifqs)
        self.memory = Mapping.anonymous(4 * PAGE)
        for account in self.accounts:
            account.lease_as(Buffer, Data, None, [self.memory.span], [])

    def read(self, inbox: object = None, ifq: int = 0) -> Read:
        made = Read(inbox)
        self.enlist(made, ifq)
        self.set_armed(made, True)
        return made


def test_runs_become_leases_where_their_request_wants_them() -> None:
    core = Leased(ifqs=2)
    incoming: list[Buffer] = []
    a, b = core.read(), core.read(Inbox(incoming), ifq=1)
    core.brought((a.token, [0, 100]), (b.token, [200]), (a.token, [300]))
    assert core.count()
    fresh: list[Data[Read, Buffer]] = []
    for _ in range(2):  # as after a signal
        assert core.lease_runs(fresh)
        assert [(each.request, each.buffer.off, each.buffer.token) for each in fresh] == [
            (a, off, a.token) for off in (0, 100, 300)
        ]
        assert [(each.off, each.token) for each in incoming] == [(200, b.token)]
        assert [account.buffers for account in core.accounts] == [3, 1]
    assert list(core.columns.offs[:4]) == [ALL_ONES] * 4


def test_what_names_no_place_is_left_and_what_came_before_it_leased() -> None:
    core = Leased()
    mine = core.read()
    core.brought((mine.token, [0, 4 * PAGE - 99]), (mine.token, [200]))
    assert core.count()
    fresh: list[Data[Read, Buffer]] = []
    for _ in range(2):
        assert not core.lease_runs(fresh)
        assert [each.buffer.off for each in fresh] == [0]
    assert list(core.columns.offs[:3]) == [ALL_ONES, 4 * PAGE - 99, 200]


def test_greedy_requests_are_copied_first() -> None:
    core = Leased()
    [account] = core.accounts
    account.copy_fair, account.most = 10, 0
    fair, greedy = core.read(), core.read()
    greedy._greedy = True
    core.brought((fair.token, [0]), (greedy.token, [100]), (fair.token, [200]))
    assert core.count()
    fresh: list[Data[Read, Buffer]] = []
    assert core.lease_runs(fresh)
    assert [each.buffer.copied for each in fresh] == [False, True, False]


@pytest.mark.parametrize(("inbox", "error"), [(object(), AttributeError), (Inbox(()), TypeError)])
def test_an_inbox_without_a_list_takes_nothing(inbox: object, error: type[Exception]) -> None:
    core = Leased()
    core.brought((core.read(inbox).token, [0]))
    assert core.count()
    for _ in range(2):
        with pytest.raises(error):
            core.lease_runs([])
    assert core.columns.offs[0] == 0


def test_runs_without_what_leases_are_made_of_are_refused() -> None:
    core = Turned()
    made = Read()
    core.enlist(made, 0)
    core.set_armed(made, True)
    core.brought((made.token, [0]))
    assert core.count()
    with pytest.raises(ValueError, match="no ifq"):
        core.lease_runs([])
    with pytest.raises(TypeError):
        core.lease_runs(())  # type: ignore[arg-type]
    [account] = core.accounts
    with pytest.raises(ValueError, match="needs a Lease"):
        account.lease_as(int, Data, None, [], [])  # type: ignore[arg-type]
    account.lease_as(Buffer, Data, None, [], [])
    with pytest.raises(ValueError, match="once"):
        account.lease_as(Buffer, Data, None, [], [])
    with pytest.raises(ValueError, match="no Turn"):
        Core().lease_runs([])


def test_an_event_that_raises_as_it_is_made_is_made_again() -> None:
    core = Turned()
    memory = Mapping.anonymous(PAGE)
    raises = [True]

    def make(_request: object, buffer: Buffer) -> object:
        if raises:
            raise RuntimeError
        return buffer

    core.accounts[0].lease_as(Buffer, make, None, [memory.span], [])
    mine = Read()
    core.enlist(mine, 0)
    core.set_armed(mine, True)
    core.brought((mine.token, [0, 100]))
    assert core.count()
    fresh: list[Buffer] = []
    with pytest.raises(RuntimeError):
        core.lease_runs(fresh)
    assert (fresh, core.accounts[0].buffers) == ([], 0)
    raises.clear()
    assert core.lease_runs(fresh)
    assert [each.off for each in fresh] == [0, 100]
