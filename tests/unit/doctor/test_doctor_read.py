"""Journals as the doctor reads them: nothing is moved, nothing believed that does not fit."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import pyzcrx.doctor  # noqa: F401 - for sys.modules
from pyzcrx.doctor.facts import Leftover
from pyzcrx.nic.journal import Journal, Owner, Store
from pyzcrx.nic.steps import Steer
from tests.unit.nic.cards import card

# The package's function of that name hides it.
MODULE = sys.modules["pyzcrx.doctor.read"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Where the doctor looks for journals of the card."""
    tmp_path.chmod(0o700)
    monkeypatch.setattr(MODULE, "default_folder", lambda: tmp_path)
    monkeypatch.setattr(MODULE, "ROOT_FOLDER", tmp_path)
    made = Store(card().netns, card().ifindex, tmp_path)
    made.path.mkdir(mode=0o700)
    return made


def leftovers() -> tuple[Leftover, ...] | None:
    found: tuple[Leftover, ...] | None = MODULE._leftovers(card())
    return found


def test_none(store: Store) -> None:
    assert leftovers() == ()
    store.path.rmdir()
    assert leftovers() == ()


@pytest.mark.parametrize(
    ("owner", "state"),
    [
        (Owner.this(), "live"),
        (Owner.nobody(), "kept"),
        (replace(Owner.this(), started=1), "stale"),
        (replace(Owner.this(), boot="another"), "stale"),
    ],
)
def test_whose_they_are(store: Store, owner: Owner, state: str) -> None:
    rule = Steer("tcp4 dst 192.0.2.1:9999", 2, location=5)
    journal = Journal.begin(card(), (1, 2), owner).intending(rule)
    store.save(journal)
    assert leftovers() == (Leftover(journal.name, owner.pid, (1, 2), 1, state, (rule,)),)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", bytes(range(256))])
def test_a_damaged_one_stays_where_it_is(store: Store, data: bytes) -> None:
    file = store.path / "7-1.json"
    file.write_bytes(data)
    found = leftovers()
    assert found is not None
    assert [leftover.state for leftover in found] == ["damaged"]
    assert file.read_bytes() == data


def test_not_to_be_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert leftovers() is None
    del store
