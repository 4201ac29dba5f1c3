"""Journals: whole or not at all, of living and dead processes, in a folder nobody else writes."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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
    journal = Journal.begin(card(netns=netns()), (3,), Owner.this())
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
    with pytest.raises(pyzcrx.errors.JournalError, match="No space left"):
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
        damage(version=0),
        damage(version=True),
        damage(version=2.0),
        damage(version="2"),
        damage(steps=[{}]),
        damage(done=9),
        damage(done=-1),
        damage(steps=[{"kind": "bomb"}]),
        damage(owner={}),
        damage(ifindex="2"),
        damage(ifindex=3),
        damage(netns=1),
        damage(name="other"),
        damage(driver="x" * 100_000, done="y" * 100_000),
        begun().to_json()[:-40],
        "[" * 200_000,
        '{"version": 1, "steps": ' + "[" * 200_000,
        '{"version": ' + "9" * 10_000 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_journal_is_said_and_kept_aside(store: Store, text: str) -> None:
    (store.path / "bad.json").write_text(text)
    with pytest.raises(pyzcrx.errors.JournalError, match="is damaged") as caught:
        store.load("bad")
    assert "zcrx-nic show" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert (store.path / "bad.damaged").read_text() == text
    assert store.journals() == ([], [])


def places(plain: Any, *way: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to every value within *plain*."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, dict | list):
            yield from places(value, *way, key)


def altered(way: tuple[str | int, ...], value: Any) -> str:
    """A valid journal, but for the value at *way*: *value*, or none where that is DELETED."""
    plain = at = json.loads(EVERYTHING.to_json())
    for key in way[:-1]:
        at = at[key]
    if value is DELETED:
        del at[way[-1]]
    else:
        at[way[-1]] = value
    return json.dumps(plain)


DELETED = object()
EVERYTHING = begun(
    [
        *plan(
            card(private_flags={"rx_cqe_compress": True}, driver="mlx5_core"),
            Wanted((FLOW,), None, 2, 1024, "1", {"threaded": 1}),
        ).steps
    ]
)
OTHER_VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 1.5, float("nan"), 1 << 32, 1 << 64, -(1 << 200)),
    *("", "x", "irq:", "irq:-1", "napi:x:threaded", "rss:", "\0", "\ud800", "9" * 5000),
    *([], [0], [None], [[]], ["x"], [-1], [1 << 64], {}, {"kind": "set"}, {"kind": []}, DELETED),
]


@pytest.mark.parametrize("way", [*places(json.loads(EVERYTHING.to_json()))], ids=str)
def test_any_other_value_anywhere_is_read_or_damage(way: tuple[str | int, ...]) -> None:
    """And what is read can be used: every step of it can be put into words and written."""
    for value in OTHER_VALUES:
        try:
            journal = Journal.from_json(altered(way, value))
        except ValueError:
            continue
        assert Journal.from_json(journal.to_json()) == journal
        for step in journal.steps:
            step.command("eth0")
            if isinstance(step, Set) and step.key != "tcp-data-split":
                replace(step, after=step.before).command("eth0")


def test_a_journal_of_a_newer_version_is_left_as_it_is(store: Store) -> None:
    """Whatever else is in it: that this version cannot know."""
    path = store.path / "new.json"
    for text in (damage(version=2), '{"version": 3, "name": {}}', '{"version": 99}'):
        path.write_text(text)
        with pytest.raises(
            pyzcrx.errors.JournalError, match=r"of version \d+, and this pyzcrx reads 1"
        ) as caught:
            store.load("new")
        assert "zcrx-nic restore of the newer pyzcrx" in caught.value.hint
        assert store.peek() == {"new": "newer"}
        found, (wrong,) = store.journals()
        assert (found, wrong) == ([], str(caught.value))
        assert [file.name for file in store.path.iterdir() if file.name != "lock"] == ["new.json"]
        assert path.read_text() == text


def make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")  # the whole path may be too long
    os.close(folder)


STRANGE_FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a directory": Path.mkdir,
    "a symbolic link": lambda path: path.symlink_to("/dev/zero"),
    "a socket": make_socket,
    "a device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
}


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_is_no_file_is_said_and_neither_opened_nor_moved(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begun()
    store.save(journal)
    try:
        STRANGE_FILES[kind](store.path / "strange.json")
    except PermissionError:
        pytest.skip("expected: only root can make a device")
    before = (store.path / "strange.json").lstat()
    opened: list[object] = []
    real = os.open

    def watched(path: Any, *arguments: Any, **more: Any) -> int:
        opened.append(path)
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", watched)
    found, (wrong,) = store.journals()
    assert found == [journal]
    assert f"strange.json is no journal: it is {kind}; see who put it there" in wrong
    assert store.peek() == {journal.name: journal, "strange": "foreign"}
    assert store.path / "strange.json" not in opened
    assert (store.path / "strange.json").lstat() == before


def test_a_huge_file_is_damage_and_not_read_to_its_end(store: Store) -> None:
    with (store.path / "bad.json").open("w") as file:
        file.truncate(1 << 40)
    assert store.peek() == {"bad": "damaged"}
    with pytest.raises(pyzcrx.errors.JournalError, match="has more than 16777216 bytes"):
        store.load("bad")


@pytest.mark.skipif(os.geteuid() != 0, reason="expected: only root can give a file away")
def test_a_file_of_somebody_else(store: Store) -> None:
    store.save(begun())
    (file,) = store.path.glob("*.json")
    os.chown(file, 65534, 65534)
    _, (wrong,) = store.journals()
    assert "it belongs to user 65534" in wrong
    assert file.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read(
    store: Store, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(begun())

    def fail(_path: Path) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "lstat", fail)
    found, (wrong,) = store.journals()
    assert found == []
    assert f"cannot be read: {os.strerror(number)}; " in wrong
    assert len(list(store.path.glob("*.json"))) == 1


def test_a_folder_that_cannot_be_listed(store: Store) -> None:
    store.path /= "lock"
    found, (wrong,) = store.journals()
    assert found == []
    assert "cannot be read" in wrong


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
    assert store.peek() == {journal.name: journal, "bad": "damaged"}
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
    with (
        pytest.raises(pyzcrx.errors.JournalError, match="is no folder"),
        Store(1, 2, folder).locked(),
    ):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_lock_or_journal_that_is_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "target").write_text(begun().to_json())
    (store.path / "x.json").symlink_to(tmp_path / "target")
    with pytest.raises(pyzcrx.errors.JournalError, match="is a symbolic link"):
        store.load("x")
    (store.path / "x.part").symlink_to(tmp_path / "target")
    before = (tmp_path / "target").read_text()
    store.save(replace(begun(), name="x"))
    assert (tmp_path / "target").read_text() == before


@pytest.mark.parametrize(("mode", "text"), [(0o777, "by others"), (0o750, "is open to others")])
def test_a_folder_that_others_could_write_to(folder: Path, mode: int, text: str) -> None:
    make_safe(folder)
    folder.chmod(mode)
    with pytest.raises(pyzcrx.errors.JournalError, match=text):
        make_safe(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="expected: only root can give a folder away")
def test_a_folder_of_somebody_else(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(pyzcrx.errors.JournalError, match="by others than root and us"):
        make_safe(folder)


def test_one_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Store(1, 2, folder), Store(1, 2, folder)
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0)
    with (
        one.locked(),
        pytest.raises(pyzcrx.errors.NicBusy, match="another program has been changing"),
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
    strange = ("x", "-1", "0", "02", "²", "٣", "9" * 20)
    for name in (f"{netns()}-2", "1-2", *(f"{netns()}-{index}" for index in strange)):
        make_safe(folder / name)
    assert [store.path.name for store in stores(folder)] == [f"{netns()}-2"]
