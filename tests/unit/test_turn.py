"""take() and give_back(): what a turn brought, counted, and what of it goes back."""

from __future__ import annotations

import gc
import weakref

import pytest

from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import Mapping
from pyzcrx._lease import Account, Receiver, give_back, take
from pyzcrx._queue.refill import RefillQueue, region_bytes
from pyzcrx._receive.protocol import ReceiveProtocol
from pyzcrx._ring.columns import COUNTED, DRAINED, FRESH, Columns
from pyzcrx._ring.core import TOKEN_RECEIVE, TOKEN_SLOT_SHIFT

ALL_ONES = (1 << 64) - 1


def token(slot: int, serial: int) -> int:
    return TOKEN_RECEIVE | slot << TOKEN_SLOT_SHIFT | serial


def receiver() -> Receiver:
    made = Receiver()
    made.protocol = ReceiveProtocol()
    return made


def columns_of(*runs: tuple[int, list[int]]) -> Columns:
    """As a turn leaves them that brought these runs: token, and offs of 100 bytes each."""
    columns = Columns(64)
    raw = columns.raw
    raw.fresh, raw.now_ns = DRAINED, 77
    for run, (of, offs) in enumerate(runs):
        raw.run_token[run] = of
        raw.run_bytes[run] = 100 * len(offs)
        for off in offs:
            raw.token[raw.n_data], raw.off[raw.n_data], raw.len[raw.n_data] = of, off, 100
            raw.n_data += 1
        raw.n_runs += 1
        raw.run_start[raw.n_runs] = raw.n_data
    return columns


def queue_of(account: Account, entries: int) -> RefillQueue:
    rq = RefillQueue(Mapping.anonymous(region_bytes(entries)), entries, head=0, tail=4, rqes=64)
    account.rq = rq.shared
    return rq


def test_each_run_counts_once_for_its_request_and_its_ifq() -> None:
    a, b, c = token(0, 1), token(1, 2), token(0, 3)
    columns = columns_of((a, [0, 1]), (b, [2]), (a, [3]), (c, [4, 5, 6]))
    requests = {a: receiver(), b: receiver(), c: receiver(), 9: object()}
    requests[a].protocol.fruitless = 2  # type: ignore[attr-defined]
    accounts, told = [Account(), Account()], [object()]
    for _ in range(2):  # as after a signal
        assert take(columns.turn, requests, accounts, told)
        assert columns.counts[FRESH] == COUNTED
        assert told == [requests[of] for of in (a, b, a, c)]
        received = [requests[of].protocol.received for of in (a, b, c)]  # type: ignore[attr-defined]
        assert received == [300, 100, 300]
        assert [(each.taken, each.leased, each.bytes) for each in accounts] == [
            (6, 6, 600),
            (1, 1, 100),
        ]
    assert requests[a].protocol.fruitless == 0  # type: ignore[attr-defined]
    assert accounts[0].now_ns == 77


@pytest.mark.parametrize("other", ["unknown", "no receiver", "no protocol", "no ifq"])
def test_a_run_that_is_nobodys_counts_for_nobody(other: str) -> None:
    mine, theirs = token(0, 1), token(7 if other == "no ifq" else 0, 2)
    requests: dict[int, object] = {mine: receiver()}
    if other != "unknown":
        requests[theirs] = {"no receiver": object(), "no protocol": Receiver()}.get(
            other, receiver()
        )
    account = Account()
    columns = columns_of((mine, [0]), (theirs, [1]))
    assert not take(columns.turn, requests, [account], [])
    assert columns.counts[FRESH] == DRAINED
    assert (account.taken, account.bytes) == (0, 0)


def test_a_receiver_keeps_its_protocol_and_no_longer() -> None:
    class Protocol(ReceiveProtocol):
        __slots__ = ("__weakref__",)

    made = Receiver()
    with pytest.raises(AttributeError):
        _ = made.protocol
    made.protocol = Protocol()
    left = weakref.ref(made.protocol)
    gc.collect()
    assert left() is not None
    del made
    assert left() is None


def test_what_was_not_taken_goes_back_to_its_own_refill_queue() -> None:
    accounts = [Account(), Account()]
    first, second = (queue_of(account, 8) for account in accounts)
    for account in accounts:
        account.take(3)
    columns = columns_of((token(0, 1), [1, ALL_ONES]), (token(0, 2), [3]), (token(1, 3), [4]))
    for _ in range(2):  # as after a signal: what went back is marked
        give_back(columns.turn, accounts)
        assert [first.view[i, 0] for i in range(first.pending)] == [1, 3]
        assert [second.view[i, 0] for i in range(second.pending)] == [4]
        assert list(columns.offs[:4]) == [ALL_ONES] * 4
        assert [(each.leased, each.given, each.pushed, each.count) for each in accounts] == [
            (1, 2, 2, 0),
            (2, 1, 1, 0),
        ]
    assert [sum(account.histogram) for account in accounts] == [2, 1]


def test_it_waits_where_the_refill_queue_is_full_and_none_overtakes() -> None:
    account = Account()
    rq = queue_of(account, 4)
    account.take(8)
    give_back(columns_of((token(0, 1), [0, 1, 2, 3, 4, 5])).turn, [account])
    assert [rq.view[i, 0] for i in range(4)] == [0, 1, 2, 3]
    assert account.returned() == [4, 5]
    ffi.cast("uint32_t *", rq.mapping.address)[0] = 3  # the kernel takes three
    give_back(columns_of((token(0, 1), [6, 7])).turn, [account])
    assert account.returned() == [4, 5, 6, 7]
    assert account.push() == 4
    assert [rq.view[i % 4, 0] for i in range(3, 7)] == [3, 4, 5, 6]
    assert (account.pushed, account.count, account.leased) == (7, 1, 0)


def test_runs_of_no_ifq_go_nowhere() -> None:
    columns = columns_of((token(3, 1), [7]))
    give_back(columns.turn, [])
    assert columns.offs[0] == 7  # not marked as given back
