"""What a turn brought beside data: whose each completion is, told once, also after an interruption.

And the roster as those see it who find a request by its token.
"""

from __future__ import annotations

import gc

import pytest

from pyzcrx._lease import Receiver
from pyzcrx.uapi import CqeFlag
from tests.unit.test_turn import Turned

MORE = int(CqeFlag.MORE)


class Asked(Receiver):
    """A request that keeps what it was told; an event of each completion, or a surprise first."""

    __slots__ = ("raises", "told")

    def __init__(self, raises: int = 0) -> None:
        self.told: list[tuple[int, int]] = []
        self.raises = raises

    def _complete(self, res: int, flags: int) -> object:
        self.told.append((res, flags))
        if self.raises:
            self.raises -= 1
            raise KeyboardInterrupt
        return (res, flags) if res else None


def in_flight(core: Turned, raises: int = 0, ifq: int = 0) -> Asked:
    made = Asked(raises)
    core.enlist(made, ifq)
    core.set_armed(made, True)
    core._operations[made.token] = made
    return made


def bring(core: Turned, *others: tuple[int, int, int]) -> None:
    """The last turn brought these: token, res, flags."""
    raw = core.columns.raw
    raw.n_data = raw.n_runs = 0
    raw.n_other = len(others)
    for i, (token, res, flags) in enumerate(others):
        raw.other_token[i], raw.other_res[i], raw.other_flags[i] = token, res, flags
    core.others_done = 0


def test_each_completion_goes_to_its_own_and_events_keep_their_order() -> None:
    core = Turned()
    one, two, watcher = in_flight(core), in_flight(core), Asked()
    core._own[7] = watcher
    bring(
        core, (two.token, -5, MORE), (one.token, 9, 0), (7, 3, 0), (1234, 1, 0), (two.token, 0, 0)
    )
    core.complete()
    assert core.posted == [(-5, MORE), (9, 0), (3, 0)]
    assert (one.told, two.told, watcher.told) == ([(9, 0)], [(-5, MORE), (0, 0)], [(3, 0)])
    assert core._operations == {}
    assert core._own == {7: watcher}, "it is there as long as the ring wants"
    core.complete()
    assert len(core.posted) == 3, "none is told twice"


def test_the_last_completion_is_told_again_after_an_interruption() -> None:
    core = Turned()
    one, two = in_flight(core, raises=2), in_flight(core)
    bring(core, (one.token, 1, 0), (two.token, 2, 0))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            core.complete()
        assert core.posted == []
        assert one.token not in core._operations, "the kernel holds it no longer"
    core.complete()
    assert core.posted == [(1, 0), (2, 0)]
    assert one.told == [(1, 0)] * 3
    assert two.told == [(2, 0)]


def test_data_of_a_request_that_ended_is_nobodys() -> None:
    core = Turned()
    one = in_flight(core)
    bring(core, (one.token, 1, 0))
    core.complete()
    core.columns.raw.n_other = 0
    core.brought((one.token, [0]))
    assert not core.count()


def test_a_request_is_found_by_its_token_as_long_as_it_lives() -> None:
    core = Turned(ifqs=2)
    assert core.enlisted(0) is None
    one, two = Asked(), in_flight(core, ifq=1)
    core.enlist(one, 0)
    token = one.token
    assert core.enlisted(token) is one, "armed or not"
    assert core.enlisted(token + 1) is None
    assert (core.enlisted_on(0), core.enlisted_on(1), core.enlisted_on(2)) == ([one], [two], [])
    del one
    assert core.enlisted(token) is None
    assert core.enlisted(0) is None
    assert core.enlisted_on(0) == []
    with pytest.raises(OverflowError):
        core.enlisted(-1)


def test_a_request_that_is_dying_is_not_found_again() -> None:
    core = Turned()
    found = []

    class Last:
        def __del__(self) -> None:
            found.append((core.enlisted(token), core.enlisted_on(0)))

    class Holder(Receiver):
        __slots__ = ("last",)

        def __init__(self) -> None:
            self.last = Last()

    made = Holder()
    core.enlist(made, 0)
    token = made.token
    del made
    gc.collect()
    assert found == [(None, [])]
