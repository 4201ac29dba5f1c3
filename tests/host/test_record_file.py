"""Files of the recorder, on the file system of this machine."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyzcrx.errors import BadArgument, ClosedError
from pyzcrx.record.file import GATHER_BYTES, MOST_PIECES, RecordFailed, RecordFile
from pyzcrx.record.system import direct_alignment

AREA = memoryview(mmap.mmap(-1, 4 << 20))
AREA[:] = random.Random(1).randbytes(len(AREA))
WHOLE = [4096] * 700
ODD = [1, 4095, 8192, 100, 3996, 4096, 70_000, 511, 12_288, GATHER_BYTES + 3, 7]
SMALL = [700] * (MOST_PIECES + 10)


@pytest.fixture(params=[False, True], ids=["buffered", "direct"])
def direct(request: pytest.FixtureRequest, tmp_path: Path) -> bool:
    if request.param:
        fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
        try:
            if direct_alignment(fd) is None:
                pytest.skip("expected: a file system without direct I/O")
        finally:
            os.close(fd)
    return bool(request.param)


@contextmanager
def most_bytes(size_bytes: int) -> Iterator[None]:
    """Writes beyond fail, the one that reaches it is short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def pieces(lengths: list[int], at: int = 0) -> Iterator[memoryview]:
    for length in lengths:
        yield AREA[at : at + length]
        at += length


def write(file: RecordFile, lengths: list[int]) -> None:
    for chunk in pieces(lengths):
        file.append(chunk)
        file.flush()


@pytest.mark.parametrize("every", [1, 3, 10_000])
@pytest.mark.parametrize("lengths", [WHOLE, ODD, SMALL], ids=["whole", "odd", "small"])
def test_the_file_has_what_was_appended(
    tmp_path: Path, direct: bool, lengths: list[int], every: int
) -> None:
    file = RecordFile(tmp_path / "out", direct=direct)
    for i, chunk in enumerate(pieces(lengths)):
        file.append(chunk)
        if i % every == 0:
            file.flush()
    total = sum(lengths)
    assert file.position == total
    assert file.finish() == total == file.synced_bytes
    assert (tmp_path / "out").read_bytes() == AREA[:total]
    if not direct or lengths is WHOLE:
        assert file.copied_bytes == 0


def test_a_chunk_may_change_after_flush(tmp_path: Path, direct: bool) -> None:
    file = RecordFile(tmp_path / "out", direct=direct)
    memory = memoryview(mmap.mmap(-1, 8192))
    for value in (b"a", b"b"):
        memory[:] = value * 8192
        file.append(memory[:5000])
        file.flush()
    assert file.finish() == 10_000
    assert (tmp_path / "out").read_bytes() == b"a" * 5000 + b"b" * 5000


@pytest.mark.parametrize("stop", [0, 1, 4096, 20_480, 30_001])
def test_resume_goes_on_behind_what_a_killed_one_wrote(
    tmp_path: Path, direct: bool, stop: int
) -> None:
    path = tmp_path / "out"
    path.write_bytes(AREA[:stop])
    file = RecordFile(path, direct=direct, resume=True)
    assert file.position == file.synced_bytes == stop
    file.append(AREA[stop:100_000])
    file.finish()
    assert path.read_bytes() == AREA[:100_000]


@pytest.mark.parametrize("limit", [0, 4096, 40_960, 65_536])
def test_a_full_disk_leaves_a_right_prefix_and_resume_completes_it(
    tmp_path: Path, direct: bool, limit: int
) -> None:
    path = tmp_path / "out"
    file = RecordFile(path, direct=direct)
    with most_bytes(limit), pytest.raises(RecordFailed, match=f"first {limit} bytes") as caught:
        write(file, ODD)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.right_bytes == limit == path.stat().st_size
    assert path.read_bytes() == AREA[:limit]
    for again in (file.flush, file.sync, file.finish, lambda: file.append(AREA[:1])):
        with pytest.raises(RecordFailed):
            again()
    file.close()
    file = RecordFile(path, direct=direct, resume=True)
    file.append(AREA[limit : sum(ODD)])
    assert file.finish() == sum(ODD)
    assert path.read_bytes() == AREA[: sum(ODD)]


@pytest.mark.parametrize(
    ("number", "cause"),
    [(errno.EIO, "the disk failed"), (errno.EROFS, "because the disk failed")],
)
def test_what_no_sync_vouches_for_is_not_claimed(
    tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch, number: int, cause: str
) -> None:
    path = tmp_path / "out"
    file = RecordFile(path, direct=direct)
    file.append(AREA[:8192])
    assert file.sync() == 8192
    file.append(AREA[8192:20_480])

    def broken(_fd: int) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(RecordFailed, match=f"{cause}; its first 8192 bytes") as caught:
        file.sync()
    assert caught.value.right_bytes == file.synced_bytes == 8192
    assert path.read_bytes() == AREA[:8192]
    assert pickle.loads(pickle.dumps(caught.value)).right_bytes == 8192
    file.close()


def test_reserved_room_is_no_part_of_the_file(tmp_path: Path, direct: bool) -> None:
    path = tmp_path / "out"
    file = RecordFile(path, direct=direct, reserve_bytes=1 << 20)
    assert path.stat().st_size == 0
    assert path.stat().st_blocks * 512 >= 1 << 20
    file.append(AREA[:5000])
    file.finish()
    assert path.read_bytes() == AREA[:5000]
    assert path.stat().st_blocks * 512 < 1 << 20


def test_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"precious")
    with pytest.raises(BadArgument, match="resume it, or remove it"):
        RecordFile(path)
    assert path.read_bytes() == b"precious"


def test_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(RecordFailed, match="ENOENT"):
        RecordFile(tmp_path / "none" / "out")
    with pytest.raises(RecordFailed, match="EISDIR"):
        RecordFile(tmp_path, resume=True)


def test_nothing_is_taken_once_it_is_closed(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "out")
    file.close()
    file.close()
    for call in (file.flush, file.sync, file.finish, lambda: file.append(AREA[:1])):
        with pytest.raises(ClosedError):
            call()
