"""Journals: whole or not at all, of living and dead processes, in a folder nobody else writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyzcrx
from pyzcrx.nic import journal as module
from pyzcrx.nic.journal import Journal, Owner, Store, make_safe, stores
from pyzcrx.nic.link import netns
from pyzcrx.nic.plan import Wanted, plan
from pyzcrx.nic.steps import Context, Set, Steer, Step
from tests.unit.nic.cards import card
from tests.unit.nic.test_plan import FLOW

STEPS: list[Step] = [
    Set("rss", None, [0, 1], [0, 1, 2]),
    Context(1, (2, 3)),
    Steer(str(FLOW), 3, None, 7),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where journals may be: nobody else can write there."""
    tmp_path.chmod(0o700)
    return tmp_path / "nic"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store(netns(), 2, folder)
    with store.locked():
        yield store


def begun(steps: list[Step] = STEPS) -> Journal:
    journal = Journal.begin(card(), (3,), Owner.this())
    for step in steps:
        journal = journal.intending(step).having_done(step)
    return journal


@settings(deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=5), st.booleans())
def test_json_round_trip(steps: list[Step], intended: bool) -> None:
    journal = begun(steps)
    if intended:
        journal = journal.intending(STEPS[0])
        assert journal.done == len(journal.steps) - 1
    assert Journal.from_json(journal.to_json()) == journal


def test_every_step_of_a_plan_can_be_written() -> None:
    wanted = Wanted((FLOW,), None, 2, 1024, "1", {"threaded": 1})
    journal = begun(list(plan(card(), wanted).steps))
    assert Journal.from_json(journal.to_json()) == journal


def test_saved_and_loaded(store: Store) -> None:
    journal = begun()
    store.save(journal)
    assert store.journals() == ([journal], [])
    assert (store.path / f"{journal.name}.json").stat().st_mode & 0o777 == 0o600
    assert store.path.stat().st_mode & 0o777 == 0o700
    store.save(replace(journal, done=0, steps=()))
    assert store.load(journal.name).steps == ()
    store.remove(journal)
    store.remove(journal)
    assert store.journals() == ([], [])


def test_a_crash_while_writing_leaves_the_old_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begun()
    store.save(journal)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pyzcrx.JournalError, match="No space left"):
        store.save(replace(journal, steps=(), done=0))
    monkeypatch.undo()
    assert store.journals() == ([journal], [])
    store.save(journal)


def damage(**changes: Any) -> str:
    return json.dumps(json.loads(begun().to_json()) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\0\0\0",
        damage(version=2),
        damage(steps=[{}]),
        damage(done=9),
        damage(done=-1),
        damage(steps=[{"kind": "bomb"}]),
        damage(owner={}),
        damage(ifindex="2"),
        damage(name="other"),
        begun().to_json()[:-40],
    ],
)
def test_a_damaged_journal_is_said_and_kept_aside(store: Store, text: str) -> None:
    (store.path / "bad.json").write_text(text)
    with pytest.raises(pyzcrx.JournalError, match="is damaged") as caught:
        store.load("bad")
    assert "zcrx-nic show" in str(caught.value)
    assert (store.path / "bad.damaged").read_text() == text
    assert store.journals() == ([], [])


def test_one_damaged_journal_does_not_hide_the_others(store: Store) -> None:
    journal = begun()
    store.save(journal)
    (store.path / "bad.json").write_bytes(b"\xff\xfe")
    found, (wrong,) = store.journals()
    assert found == [journal]
    assert "damaged" in wrong


def test_looking_changes_nothing(store: Store) -> None:
    journal = begun()
    store.save(journal)
    (store.path / "bad.json").write_text("{")
    assert store.peek() == {journal.name: journal, "bad": None}
    assert (store.path / "bad.json").exists()


# -- owners -------------------------------------------------------------------------


def test_owners() -> None:
    this = Owner.this()
    assert not this.dead
    assert replace(this, started=this.started + 1).dead
    assert replace(this, boot="another").dead
    # A process of another PID namespace cannot be seen from here.
    assert not replace(this, pid=1 << 22, pid_ns=1).dead
    nobody = Owner.nobody()
    assert nobody.kept
    assert not nobody.dead
    assert not this.kept


def test_the_dead_are_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(Owner.this(), pid=process.pid, started=module._started(process.pid) or 0)
    assert not owner.dead
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner.dead  # a zombie changes nothing any more
    process.communicate()
    assert owner.dead


# -- the folder ----------------------------------------------------------------------


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(pyzcrx.JournalError, match="is no folder"), Store(1, 2, folder).locked():
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_lock_or_journal_that_is_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "target").write_text(begun().to_json())
    (store.path / "x.json").symlink_to(tmp_path / "target")
    with pytest.raises(pyzcrx.JournalError, match="cannot be read"):
        store.load("x")
    (store.path / "x.part").symlink_to(tmp_path / "target")
    before = (tmp_path / "target").read_text()
    store.save(replace(begun(), name="x"))
    assert (tmp_path / "target").read_text() == before


@pytest.mark.parametrize(("mode", "text"), [(0o777, "by others"), (0o750, "is open to others")])
def test_a_folder_that_others_could_write_to(folder: Path, mode: int, text: str) -> None:
    make_safe(folder)
    folder.chmod(mode)
    with pytest.raises(pyzcrx.JournalError, match=text):
        make_safe(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="expected: only root can give a folder away")
def test_a_folder_of_somebody_else(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(pyzcrx.JournalError, match="by others than root and us"):
        make_safe(folder)


def test_one_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Store(1, 2, folder), Store(1, 2, folder)
    monkeypatch.setattr(module, "LOCK_PATIENCE_S", 0)
    with (
        one.locked(),
        pytest.raises(pyzcrx.CardBusy, match="another program has been changing"),
        two.locked(),
    ):
        pass
    with two.locked():
        pass


def test_waiting_for_the_lock(folder: Path) -> None:
    held, seen = threading.Event(), []

    def wait() -> None:
        held.wait()
        with Store(1, 2, folder).locked():
            seen.append("second")

    thread = threading.Thread(target=wait)
    thread.start()
    with Store(1, 2, folder).locked():
        held.set()
        seen.append("first")
    thread.join(60)
    assert seen == ["first", "second"]


def test_stores_of_this_namespace(folder: Path) -> None:
    assert stores(folder) == ()
    for name in (f"{netns()}-2", "1-2", f"{netns()}-x"):
        make_safe(folder / name)
    assert [store.path.name for store in stores(folder)] == [f"{netns()}-2"]
