"""Who was idle for too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyzcrx.cli.idle import Idle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_longest_idle_come_first_and_once() -> None:
    clock = Clock()
    idle: Idle[str] = Idle(10, clock)
    assert idle.wait_s() is None
    for name in "abc":
        idle.touch(name)
        clock.now += 1
    idle.touch("a")
    assert list(idle.due()) == []
    clock.now = 11
    assert idle.wait_s() == 0
    assert list(idle.due()) == ["b"]
    assert list(idle.due()) == []
    idle.forget("c")
    idle.forget("c")
    assert idle.wait_s() == 2
    clock.now = 13
    assert list(idle.due()) == ["a"]
    assert idle.wait_s() is None


def test_without_a_time_nobody_is() -> None:
    idle: Idle[str] = Idle(None)
    idle.touch("a")
    assert idle.wait_s() is None
    assert list(idle.due()) == []


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 5)), max_size=50))
def test_it_is_who_did_nothing_for_that_long(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    idle: Idle[str] = Idle(7, clock)
    last: dict[str, float] = {}
    for name, pause in steps:
        clock.now += pause
        due = {other for other, at in last.items() if clock.now - at >= 7}
        assert set(idle.due()) == due
        for other in due:
            del last[other]
        idle.touch(name)
        last[name] = clock.now
