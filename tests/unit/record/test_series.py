"""One stream's files: how it is divided, and how a resumed one goes on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyzcrx.errors import BadArgument
from pyzcrx.record.series import FileSeries

DATA = random.Random(3).randbytes(100_000)


def write(series: FileSeries, data: bytes, step: int = 7_001) -> None:
    for at in range(0, len(data), step):
        series.append(memoryview(data)[at : at + step])
        series.flush()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def joined(series: FileSeries) -> bytes:
    return b"".join(path.read_bytes() for path in series.paths)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_without_a_split_size_it_is_one_file(out: Path) -> None:
    series = FileSeries(out)
    write(series, DATA)
    assert series.position == len(DATA)
    assert series.finish() == series.synced_bytes == len(DATA)
    assert (series.paths, out.read_bytes()) == ([out], DATA)


@pytest.fixture
def _quick_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _fd: None)
        patch.setattr(os, "fsync", lambda _fd: None)
        yield


@pytest.mark.usefixtures("_quick_disk")
@given(
    split_bytes=st.integers(1, 400),
    lengths=st.lists(st.integers(1, 900), max_size=6),
    sync=st.integers(0, 6),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_have_the_split_size(
    tmp_path_factory: pytest.TempPathFactory, split_bytes: int, lengths: list[int], sync: int
) -> None:
    out = tmp_path_factory.mktemp("series") / "out"
    series = FileSeries(out, split_bytes=split_bytes)
    at = 0
    for i, length in enumerate(lengths):
        series.append(memoryview(DATA)[at : at + length])
        at += length
        if i == sync:
            assert series.sync() == at == series.synced_bytes
    assert series.position == at
    assert series.finish() == at
    sizes = [path.stat().st_size for path in series.paths]
    assert sizes[:-1] == [split_bytes] * (len(sizes) - 1)
    assert sizes[-1] or not at
    assert [path.name for path in series.paths] == [f"out.{i:03}" for i in range(len(sizes))]
    assert joined(series) == DATA[:at]


def test_parts_beyond_the_digits_keep_their_order(out: Path) -> None:
    series = FileSeries(out, split_bytes=10)
    series._part(1000)
    assert series._part(1000).name == "out.1000"
    series.close()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("stop", [0, 5_000, 8_192, 8_193, 20_480, 99_999])
def test_a_resumed_one_goes_on_in_its_last_part(out: Path, direct: bool, stop: int) -> None:
    first = FileSeries(out, split_bytes=8_192, direct=direct)
    write(first, DATA[:stop])
    first.finish()
    series = FileSeries(out, split_bytes=8_192, direct=direct, resume=True)
    assert series.begun_at == (stop // 4096 * 4096 if direct else stop)
    write(series, DATA[series.begun_at :])
    assert series.finish() == len(DATA)
    assert joined(series) == DATA
    assert len(series.paths) == -(-len(DATA) // 8_192)


def test_a_resumed_one_that_was_never_begun(out: Path) -> None:
    series = FileSeries(out, resume=True)
    assert series.begun_at == 0
    write(series, DATA)
    series.finish()
    assert out.read_bytes() == DATA


@pytest.mark.parametrize("there", ["out.000", "out"])
def test_what_is_there_is_kept(tmp_path: Path, out: Path, there: str) -> None:
    (tmp_path / there).write_bytes(b"precious")
    with pytest.raises(BadArgument, match="resume it, or remove it"):
        FileSeries(out, split_bytes=10 if there != "out" else None)
    assert names(tmp_path) == [there]
    assert (tmp_path / there).read_bytes() == b"precious"


@pytest.mark.parametrize("sizes", [[10, 9, 10], [11], [10, 11], [20, 20]])
def test_another_split_size_than_before_is_refused(
    tmp_path: Path, out: Path, sizes: list[int]
) -> None:
    for i, size_bytes in enumerate(sizes):
        (tmp_path / f"out.{i:03}").write_bytes(bytes(size_bytes))
    with pytest.raises(BadArgument, match="resume with the one that it was recorded with"):
        FileSeries(out, split_bytes=10, resume=True)
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == sizes


def test_direct_parts_are_whole_pages(tmp_path: Path, out: Path) -> None:
    with pytest.raises(BadArgument, match="no multiple of 4096"):
        FileSeries(out, split_bytes=10_000, direct=True)
    assert names(tmp_path) == []


def test_a_part_that_cannot_be_opened_leaves_a_right_prefix(tmp_path: Path, out: Path) -> None:
    series = FileSeries(out, split_bytes=8_192)
    (tmp_path / "out.001").mkdir()
    with pytest.raises(BadArgument, match="exists"):
        write(series, DATA)
    assert series.synced_bytes == series.position == 8_192
    assert (tmp_path / "out.000").read_bytes() == DATA[:8_192]
    series.close()


def test_only_what_was_not_used_is_removed(tmp_path: Path) -> None:
    for name, data in (("unused", b""), ("used", b"x")):
        series = FileSeries(tmp_path / name)
        write(series, data)
        series.remove_if_unused()
    assert names(tmp_path) == ["used"]


def test_room_that_cannot_be_reserved_leaves_no_file(tmp_path: Path, out: Path) -> None:
    with pytest.raises(OSError, match=r"open .*out: E"):
        FileSeries(out, reserve_bytes=1 << 47)
    assert names(tmp_path) == []


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
