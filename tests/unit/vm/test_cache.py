"""Entries are whole or absent, whatever happens to their makers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from vm import cache


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pyzcrx"


class Maker:
    """Makes an entry and counts how often."""

    def __init__(self, text: str = "content") -> None:
        self.text = text
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "sub").mkdir()
        (folder / "sub/file").write_text(self.text)


def test_made_once(cache_home: Path) -> None:
    make = Maker()
    first = cache.obtain("kind", "key", make, keep=1)
    second = cache.obtain("kind", "key", make, keep=1)
    assert make.calls == 1
    assert first.path == second.path == cache_home / "kind/key"
    assert (second / "sub/file").read_text() == "content"


def test_default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == Path.home() / ".cache/pyzcrx"


def test_keys_tell_parts_apart() -> None:
    assert cache.key("ab", "c") != cache.key("a", "bc") != cache.key("abc")
    assert cache.key("a", b"b") == cache.key(b"a", "b")


@pytest.mark.parametrize("damage", ["shorter", "missing", "extra", "manifest", "no manifest"])
def test_a_damaged_entry_is_made_again(damage: str) -> None:
    make = Maker()
    path = cache.obtain("kind", "key", make, keep=1).path
    match damage:
        case "shorter":
            (path / "sub/file").write_text("con")
        case "missing":
            (path / "sub/file").unlink()
        case "extra":
            (path / "stray").write_text("")
        case "manifest":
            (path / cache.MANIFEST).write_text("{}")
        case "no manifest":
            (path / cache.MANIFEST).unlink()
    entry = cache.obtain("kind", "key", make, keep=1)
    assert make.calls == 2
    assert (entry / "sub/file").read_text() == "content"
    assert not (entry / "stray").exists()


def test_a_failed_build_leaves_nothing(cache_home: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        cache.obtain("kind", "key", fail, keep=1)
    assert [path.name for path in (cache_home / "kind").iterdir()] == ["lock"]


def _build_and_die(ready: Path) -> None:
    def die(folder: Path) -> None:
        (folder / "half").write_text("")
        ready.write_text(folder.name)
        os.kill(os.getpid(), signal.SIGKILL)

    cache.obtain("kind", "key", die, keep=1)


def test_a_killed_build_is_swept(cache_home: Path, tmp_path: Path) -> None:
    builder = multiprocessing.get_context("fork").Process(
        target=_build_and_die, args=[tmp_path / "ready"]
    )
    builder.start()
    builder.join()
    left = cache_home / "kind" / (tmp_path / "ready").read_text()
    assert builder.exitcode == -signal.SIGKILL
    assert left.is_dir()
    cache.obtain("kind", "other", Maker(), keep=2)
    assert not left.exists()


def test_of_two_builders_one_builds() -> None:
    make = Maker()
    inside, go_on = threading.Event(), threading.Event()
    paths: list[Path] = []

    def slow(folder: Path) -> None:
        inside.set()
        assert go_on.wait(10)
        make(folder)

    def obtain() -> None:
        paths.append(cache.obtain("kind", "key", slow, keep=1).path)

    builders = [threading.Thread(target=obtain) for _ in range(2)]
    builders[0].start()
    assert inside.wait(10)
    builders[1].start()
    go_on.set()
    for builder in builders:
        builder.join(10)
    assert make.calls == 1
    assert len(paths) == 2


def test_old_entries_go_the_last_used_stay(cache_home: Path) -> None:
    for number, name in enumerate(("one", "two", "three")):
        path = cache.obtain("kind", name, Maker(), keep=9).path
        os.utime(path, (number, number))
    cache.obtain("kind", "one", Maker(), keep=9)  # used again: now the youngest
    cache.obtain("kind", "four", Maker(), keep=2)
    left = {path.name for path in (cache_home / "kind").iterdir()}
    assert left == {"one", "four", "lock"}


def test_an_entry_in_use_stays(cache_home: Path) -> None:
    held = cache.obtain("kind", "held", Maker(), keep=1)
    cache.obtain("kind", "new", Maker(), keep=1)
    assert (held / "sub/file").exists()
    held.release()
    cache.obtain("kind", "newer", Maker(), keep=1)
    assert not (cache_home / "kind/held").exists()


def test_forget() -> None:
    make = Maker()
    cache.obtain("kind", "key", make, keep=1)
    cache.forget("kind", "key")
    cache.obtain("kind", "key", make, keep=1)
    assert make.calls == 2
