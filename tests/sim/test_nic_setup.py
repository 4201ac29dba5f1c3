"""What the set-up of a card says of pairs that come and go; the rest of it is in tests/nic."""

from __future__ import annotations

import pytest

import pyzcrx
from pyzcrx import nic
from tests.nic.card import journals
from tests.nic.test_refusals import refused
from tests.nic.test_setup import flow
from tests.sim.fresh import fresh_pair


def test_one_channel_only() -> None:
    with fresh_pair(queues=1) as card:
        text = refused("setup", card.interface, "-p", "9999")
    assert "has one queue only" in text
    assert f"ethtool -L {card.interface} combined 2" in text


def test_gone_meanwhile() -> None:
    with fresh_pair() as card:
        setup = nic.prepare(card.interface, flow(card))
    with pytest.raises(pyzcrx.errors.NoSuchInterface):
        setup.check()
    with pytest.warns(nic.NicWarning, match="is gone"):
        setup.close()
    assert journals() == []
