"""A recorded file's mark: what of it is right after a boot, a mount, a failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyzcrx.errors import BadArgument
from pyzcrx.record import mark
from pyzcrx.record.file import RecordFailed, RecordFile
from pyzcrx.record.series import FileSeries

DATA = os.urandom(100_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a file that was killed with 20,000 bytes on disk and 50,000 written."""
    name = tmp_path / "out"
    file = RecordFile(name)
    with memoryview(DATA) as data:
        file.append(data[:20_000])
        file.sync()
        file.append(data[20_000:50_000])
        file.flush()
    file.close()
    if mark.NAME not in os.listxattr(name):
        pytest.skip("expected: a file system without extended attributes has no marks")
    return name


def another(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """From now on it is *what* as well."""
    if what == "mount":
        monkeypatch.setattr(mark, "mount_of", lambda _fd: 7)
    elif what == "old kernel":
        monkeypatch.setattr(mark, "mount_of", lambda _fd: 0)
    else:
        boot = mark._BOOT.with_name("uuid")
        monkeypatch.setattr(mark, "_BOOT", boot)  # a new one at each read


def resumed(path: Path, *, direct: bool = False) -> tuple[int, int]:
    """Where it goes on and what was cut; then it is complete."""
    series = FileSeries(path, direct=direct, resume=True)
    with memoryview(DATA) as data:
        series.append(data[series.begun_at :])
        series.finish()
    assert path.read_bytes() == DATA
    assert mark.NAME not in os.listxattr(path)
    return series.begun_at, series.cut_bytes


@pytest.mark.parametrize("direct", [False, True])
def test_while_it_is_mounted_all_that_was_written_counts(path: Path, direct: bool) -> None:
    assert resumed(path, direct=direct) == ((49_152, 848) if direct else (50_000, 0))


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("what", ["mount", "boot", "old kernel"])
def test_later_what_was_synced(
    path: Path, direct: bool, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    another(monkeypatch, what)
    assert resumed(path, direct=direct) == ((16_384, 33_616) if direct else (20_000, 30_000))


def test_a_complete_file_is_right_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resumed(path) == (50_000, 0)
    another(monkeypatch, "boot")
    assert resumed(path) == (len(DATA), 0)


def test_a_file_that_is_shorter_than_its_mark(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(path, 10_000)
    another(monkeypatch, "mount")
    assert resumed(path) == (10_000, 0)


def test_after_a_failure_nothing_else_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes nothing: the file cannot be cut either."""
    path = tmp_path / "out"
    file = RecordFile(path)

    def refused(*_arguments: object) -> None:
        raise OSError(errno.EIO, "refused")

    with memoryview(DATA) as data, monkeypatch.context() as failing:
        file.append(data[:50_000])
        file.flush()
        failing.setattr(os, "fdatasync", refused)
        failing.setattr(os, "ftruncate", refused)
        with pytest.raises(RecordFailed, match="its first 0 bytes are right"):
            file.sync()
    file.close()
    assert path.stat().st_size == 50_000
    if mark.NAME in os.listxattr(path):
        assert resumed(path) == (0, 50_000)


def test_an_attribute_of_somebody_else(path: Path) -> None:
    os.setxattr(path, mark.NAME, b"precious")
    for direct in (False, True):
        with pytest.raises(BadArgument, match="is not pyzcrx's"):
            FileSeries(path, direct=direct, resume=True)
    assert path.read_bytes() == DATA[:50_000]
    assert os.getxattr(path, mark.NAME) == b"precious"


def test_a_mark_that_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file has might be wrong, so it stays as it is, and nothing is recorded."""

    def refused(*_arguments: object) -> bytes:
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(os, "getxattr", refused)
    for direct in (False, True):
        with pytest.raises(RecordFailed, match="EIO"):
            FileSeries(path, direct=direct, resume=True)
    assert path.read_bytes() == DATA[:50_000]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EPERM])
def test_a_file_system_that_has_no_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_arguments: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "setxattr", refused)
    path = tmp_path / "out"
    file = RecordFile(path)
    with memoryview(DATA) as data:
        file.append(data[:50_000])
        file.sync()
    file.close()
    assert resumed(path) == (50_000, 0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_one_that_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(*_arguments: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "setxattr", refused)
    with pytest.raises(RecordFailed, match=errno.errorcode[number]):
        RecordFile(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_acknowledged_is_on_disk_without_a_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark that comes back after a power failure would have acknowledged bytes cut off."""
    said: list[str] = []
    for name in ("fdatasync", "removexattr", "fsync"):
        real = getattr(os, name)

        def noted(*arguments: object, name: str = name, real: object = real) -> object:
            said.append(name)
            assert callable(real)
            return real(*arguments)

        monkeypatch.setattr(os, name, noted)
    file = RecordFile(tmp_path / "out")
    with memoryview(DATA) as data:
        file.append(data)
        said.clear()
        file.finish()
    assert said in (["fdatasync", "removexattr", "fsync"], ["fdatasync"])
