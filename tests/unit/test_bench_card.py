"""What a comparison waits for at its end, whatever it ended by."""

from __future__ import annotations

import pytest

from pyzcrx.bench import card
from pyzcrx.bench.plan import BenchError, Plan

PLAN = Plan(("columns",))


@pytest.fixture
def _held(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(_plan: Plan) -> None:
        raise BenchError("queue 3 is still bound")

    monkeypatch.setattr(card, "wait_free", held)


def fail(error: BaseException) -> None:
    with card.freed(PLAN):
        raise error


@pytest.mark.usefixtures("_held")
def test_a_queue_that_stays_bound_is_an_error() -> None:
    with pytest.raises(BenchError, match="queue 3"), card.freed(PLAN):
        pass


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("error", [BenchError("ours"), KeyboardInterrupt()], ids=repr)
def test_it_replaces_no_error(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        fail(error)
    assert caught.value is error
    assert error.__notes__ == ["queue 3 is still bound"]


def test_the_queue_is_waited_for_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Plan] = []
    monkeypatch.setattr(card, "wait_free", waited.append)
    with card.freed(PLAN):
        assert waited == []
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    assert waited == [PLAN, PLAN]
