"""A set-up and its end on a card in memory, whatever fails: no error hides another."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx._kernel.interface import Interface
from pyzcrx._kernel.meanings import kernel_error
from pyzcrx._queue import bound
from pyzcrx.nic import NicWarning, Setup, Wanted, settings
from pyzcrx.nic.journal import Journal, Owner, Store
from pyzcrx.nic.link import netns
from pyzcrx.nic.steps import Set
from tests.unit.nic.cards import card

# The package's functions of these names hide some of them.
SETUP, RESTORE, STEPS = (
    sys.modules[f"pyzcrx.nic.{name}"] for name in ("setup", "restore", "steps")
)
QUEUE = 3
STATE = card(netns=netns())
DEFAULT = list(STATE.rss[0].table)
UNTOUCHED = {"tcp-data-split": "off", "hds-thresh": 0, "rss": DEFAULT}


class Kernel:
    """A card's settings; *refuses* changes, and *held*: an ifq is bound to its queue."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = dict(UNTOUCHED)
        self.refuses = False
        self.held = False
        self.waited_s: list[float] = []
        self._netdev = self
        self.state_now = STATE

    def state(self, _interface: object) -> Any:
        return self.state_now

    def current(self, _kernel: object, _ifindex: int, key: str) -> Any:
        return self.values[key]

    def change(self, _kernel: object, _ifindex: int, key: str, value: Any) -> bool:
        if self.refuses:
            raise kernel_error(errno.EBUSY, "set rings", key)
        before, likes = self.values[key], {"auto": "off", None: DEFAULT}
        self.values[key] = likes.get(value, value) if not isinstance(value, list) else value
        return bool(self.values[key] != before)

    def wait_unbound(self, _ifindex: int, queues: Any, timeout_s: float) -> tuple[int, ...]:
        self.waited_s.append(timeout_s)
        return tuple(queues) if self.held else ()

    def close(self) -> None:
        pass

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Rules:
    """Those of a card that has none."""

    def __init__(self, _ifindex: int) -> None:
        pass

    def driver(self) -> tuple[str | None, str | None, str | None]:
        return STATE.driver, STATE.firmware, STATE.bus

    def rules(self) -> tuple[tuple[()], int]:
        return (), 16


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(settings, "current", made.current)
    monkeypatch.setattr(settings, "change", made.change)
    for module in (SETUP, RESTORE):
        monkeypatch.setattr(module, "Reader", lambda: made)
    for module in (RESTORE, STEPS):
        monkeypatch.setattr(module, "Ntuple", Rules)
    monkeypatch.setattr(SETUP, "find", lambda _: Interface(STATE.ifindex, STATE.interface))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "nic"


def set_up(folder: Path) -> Setup:
    return Setup("eth0", Wanted((), QUEUE), folder=folder)


def fail_within(folder: Path, meanwhile: Callable[[], None], error: BaseException) -> None:
    """A set-up, something that happens meanwhile, and *error* out of the block."""
    with set_up(folder):
        meanwhile()
        raise error


def journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.json"))


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_the_whole_way(kernel: Kernel, folder: Path) -> None:
    with set_up(folder) as setup:
        assert kernel.values["tcp-data-split"] == "on"
        assert QUEUE not in kernel.values["rss"]
        assert setup.queue == QUEUE
        assert len(journals(folder)) == 1
    assert kernel.values == UNTOUCHED
    assert journals(folder) == []


ERRORS = [
    RuntimeError("ours"),
    KeyboardInterrupt(),
    pyzcrx.errors.BadArgument("ours"),
    OSError(5, "ours"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_the_blocks_error_stays_when_the_card_cannot_be_put_back(
    kernel: Kernel, folder: Path, error: BaseException
) -> None:
    def refuse() -> None:
        kernel.refuses = True

    error = type(error)(*error.args)
    with (
        pytest.warns(NicWarning, match="could not be put back"),
        pytest.raises(type(error)) as caught,
    ):
        fail_within(folder, refuse, error)
    assert caught.value is error
    assert "eth0 could not be put back: set rings (rss): EBUSY" in notes(error)
    assert "zcrx-nic restore eth0" in notes(error)
    assert len(journals(folder)) == 1


def test_an_end_without_an_error_in_flight_raises(kernel: Kernel, folder: Path) -> None:
    with pytest.raises(pyzcrx.errors.RestoreFailed, match="could not be put back"), set_up(folder):
        kernel.refuses = True


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("at", [1, 2])
def test_a_steps_error_stays_when_the_others_cannot_be_undone(
    kernel: Kernel,
    folder: Path,
    error: BaseException,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error, do, left = type(error)(*error.args), Set.do, [at]

    def broken(self: Set, kernel_: Any, ifindex: int) -> Set:
        left[0] -= 1
        if left[0] >= 0:
            return do(self, kernel_, ifindex)
        kernel.refuses = True
        raise error

    monkeypatch.setattr(Set, "do", broken)
    monkeypatch.setattr(Set, "idle", False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(type(error)) as caught:
            set_up(folder)
    assert caught.value is error
    assert "eth0 could not be put back" in notes(error)


@pytest.mark.parametrize("when", ["begin", "middle"])
def test_a_journal_that_cannot_be_written(
    kernel: Kernel, folder: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full file system: what was done is undone, and the reason stays."""
    left, fsync = [0 if when == "begin" else 6], os.fsync

    def full(fd: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pyzcrx.errors.JournalError, match="No space left") as caught:
        set_up(folder)
    assert kernel.values == UNTOUCHED
    assert notes(caught.value) == ""
    assert journals(folder) == []


def test_a_journal_that_cannot_be_removed(
    kernel: Kernel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: Store, _journal: Journal) -> None:
        raise pyzcrx.errors.JournalError("no")

    monkeypatch.setattr(Store, "remove", refuse)
    with (
        pytest.warns(NicWarning, match="could not be put back: no"),
        pytest.raises(ZeroDivisionError) as caught,
    ):
        fail_within(folder, lambda: None, ZeroDivisionError())
    assert kernel.values == UNTOUCHED
    assert "could not be put back: no" in notes(caught.value)


def test_warnings_that_are_errors(kernel: Kernel, folder: Path) -> None:
    """Nothing is left undone for them, and they replace no error."""
    kernel.state_now = replace(STATE, driver="unheard-of")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NicWarning, match="is not known for zcrx"):
            set_up(folder)
        assert kernel.values == UNTOUCHED
        assert journals(folder) == []
        kernel.state_now = STATE
        others = partial(kernel.values.update, rss=[1])
        with pytest.raises(ZeroDivisionError) as caught:
            fail_within(folder, others, ZeroDivisionError())
        assert "rss was changed meanwhile" in notes(caught.value)
        with pytest.raises(NicWarning, match="rss was changed meanwhile"), set_up(folder):
            kernel.values["rss"] = [2]
    assert kernel.values == UNTOUCHED | {"rss": [2]}
    assert journals(folder) == []


class Ifq:
    """What this program has bound."""

    def __init__(self, ifindex: int, rx_queue: int) -> None:
        self.ifindex: int = ifindex
        self.rx_queue: int | None = rx_queue


@pytest.mark.parametrize(
    ("ifindex", "queue", "ours"),
    [(STATE.ifindex, QUEUE, True), (STATE.ifindex, 1, False), (9, QUEUE, False)],
)
def test_a_queue_that_this_program_holds_is_not_waited_for(
    kernel: Kernel, folder: Path, ifindex: int, queue: int, ours: bool
) -> None:
    ifq = Ifq(ifindex, queue)
    bound.add(ifq)
    kernel.held = True
    text = "a ring of this program: close that first" if ours else "io_uring"
    with pytest.warns(NicWarning, match=f"queue {QUEUE} is still held by {text}"):
        set_up(folder).close()
    assert kernel.waited_s == [0.0 if ours else RESTORE.FREE_TIMEOUT_S]
    bound.discard(ifq)
    assert not bound.holds(ifindex, (queue,))


# -- restore ----------------------------------------------------------------------


def left_behind(kernel: Kernel, folder: Path) -> Journal:
    """A set-up whose program died; the card as it left it."""
    setup = set_up(folder)
    dead = replace(setup._journal, owner=replace(Owner.this(), started=1))
    setup._store.save(dead)
    setup.abandon()
    assert kernel.values != UNTOUCHED
    return dead


@pytest.mark.parametrize("strange", ["a file", "open to others", "a FIFO among the journals"])
def test_one_strange_folder_does_not_keep_other_cards_from_restore(
    kernel: Kernel, folder: Path, strange: str
) -> None:
    dead = left_behind(kernel, folder)
    other = folder / f"{netns()}-1"
    if strange == "a file":
        other.touch()
    else:
        other.mkdir(0o777)
        other.chmod(0o777 if strange == "open to others" else 0o700)
        if strange == "a FIFO among the journals":
            os.mkfifo(other / "x.json")
    with pytest.raises(pyzcrx.errors.RestoreFailed, match=str(other)) as caught:
        RESTORE.restore(folder=folder)
    assert "\n" not in str(caught.value)
    assert kernel.values == UNTOUCHED
    assert not list(folder.glob(f"*/{dead.name}.json"))


def test_a_newer_pyzcrxs_journal_is_reported_by_restore_and_by_setup(
    kernel: Kernel, folder: Path
) -> None:
    left_behind(kernel, folder)
    (file,) = journals(folder)
    newer = file.with_name("newer.json")
    newer.write_text('{"version": 2}')
    with pytest.raises(
        pyzcrx.errors.RestoreFailed, match=r"is of version 2, .* of the newer pyzcrx"
    ):
        RESTORE.restore(folder=folder)
    assert kernel.values == UNTOUCHED
    with pytest.warns(NicWarning, match="is of version 2"):
        set_up(folder).close()
    assert journals(folder) == [newer]
    assert newer.read_text() == '{"version": 2}'


def test_an_heirs_journal_that_cannot_be_written(
    kernel: Kernel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other step is undone, and this one stays in the journal."""
    left_behind(kernel, folder)
    (file,) = journals(folder)
    heir = replace(
        Journal.from_json(file.read_text()),
        name="heir",
        since_ns=1 << 62,
        owner=Owner.this(),
        steps=(Set("hds-thresh", 0, 0, 0),),
        done=1,
    )
    Store(STATE.netns, STATE.ifindex, folder).save(heir)
    save = Store.save

    def refuse_heir(store: Store, journal: Journal) -> None:
        if journal.name == "heir":
            raise pyzcrx.errors.JournalError("no")
        save(store, journal)

    monkeypatch.setattr(Store, "save", refuse_heir)
    with pytest.raises(pyzcrx.errors.RestoreFailed, match="put back: no;"):
        RESTORE.restore(folder=folder)
    assert kernel.values == UNTOUCHED
    assert [step.key for step in Journal.from_json(file.read_text()).steps] == ["hds-thresh"]  # type: ignore[union-attr]
