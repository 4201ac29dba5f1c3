"""The receive state machine, completion by completion."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx._lease import MOST_ARM_BYTES
from pyzcrx._receive.protocol import FRUITLESS_FLUSHES, ReceiveProtocol, Step


def armed(limit: int | None = None) -> ReceiveProtocol:
    protocol = ReceiveProtocol(limit)
    protocol.arm()
    return protocol


def test_unlimited_arms_with_length_0() -> None:
    assert ReceiveProtocol().arm() == 0


@pytest.mark.parametrize("limit", [None, 1000])
def test_result_0_before_the_limit_asks_whether_anything_is_left(limit: int | None) -> None:
    protocol = armed(limit)
    protocol.data(999)
    assert protocol.finish(0) is Step.CONFIRM_END
    assert protocol.confirm(0)
    assert not protocol.confirm(6)


def test_result_0_at_the_limit() -> None:
    protocol = armed(1000)
    protocol.data(600)
    protocol.data(400)
    assert protocol.finish(0) is Step.LIMIT


def test_overflow_arms_again_for_the_rest() -> None:
    protocol = armed(1000)
    protocol.data(600)
    assert protocol.finish(-errno.ENOSPC) is Step.FLUSH_OVERFLOW
    assert protocol.arm() == 400
    protocol.data(400)
    assert protocol.finish(0) is Step.LIMIT


@pytest.mark.parametrize("res", [-errno.ENOSPC, -errno.ENOMEM])
def test_an_early_end_at_the_limit_is_the_limit(res: int) -> None:
    protocol = armed(1000)
    protocol.data(1000)
    assert protocol.finish(res) is Step.LIMIT


def test_no_memory_flushes_a_few_times_then_wants_a_buffer_back() -> None:
    protocol = armed()
    for _ in range(FRUITLESS_FLUSHES):
        assert protocol.worth_another_flush
        assert protocol.finish(-errno.ENOMEM) is Step.FLUSH_REFILL
        protocol.arm()
    assert not protocol.worth_another_flush
    protocol.data(1)
    assert protocol.worth_another_flush


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EFAULT, errno.ECANCELED, errno.EIO])
def test_other_errors_are_final(number: int) -> None:
    assert armed().finish(-number) is Step.FAIL


def test_a_limit_beyond_32_bits_takes_several_arms() -> None:
    protocol = ReceiveProtocol(MOST_ARM_BYTES + 5)
    assert protocol.arm() == MOST_ARM_BYTES
    protocol.data(MOST_ARM_BYTES)
    assert protocol.finish(0) is Step.ARM
    assert protocol.arm() == 5
    protocol.data(5)
    assert protocol.finish(0) is Step.LIMIT


def test_extend_after_the_limit() -> None:
    protocol = armed(10)
    protocol.data(10)
    assert protocol.finish(0) is Step.LIMIT
    protocol.extend(7)
    assert protocol.arm() == 7
    protocol.extend(None)
    assert protocol.arm() == 0


@given(
    limit=st.one_of(st.none(), st.integers(1, 10_000)),
    arms=st.lists(st.tuples(st.integers(0, 3000), st.sampled_from([errno.ENOSPC, errno.ENOMEM]))),
)
def test_never_asks_for_more_than_the_limit_nor_arms_with_0_for_a_limit(
    limit: int | None, arms: list[tuple[int, int]]
) -> None:
    protocol = ReceiveProtocol(limit)
    for wanted, error in arms:
        length = protocol.arm()
        assert (length == 0) == (limit is None)
        if limit is not None:
            assert length <= limit - protocol.received
            wanted = min(wanted, length)
        protocol.data(wanted)
        step = protocol.finish(-error)
        if step is Step.LIMIT:
            assert protocol.received == limit
            return
        assert step in (Step.FLUSH_OVERFLOW, Step.FLUSH_REFILL)
