"""A recording's files on one disk: what each claims to be on it is, whoever met its failure."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyzcrx.record.file import RecordFailed, RecordFile
from tests.guest.disk import small_disk

FILES = 8
SIZE = 1 << 16


def error_of_sync(file: RecordFile) -> RecordFailed | None:
    try:
        file.sync()
    except RecordFailed as error:
        return error
    return None


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("syncing", [1, FILES], ids=["one by one", "beside each other"])
def test_a_journal_that_failed_at_another_file(tmp_path: Path, syncing: int, kind: str) -> None:
    """fdatasync() alone says of the others that all is well: always on ext4, at times on XFS."""
    with small_disk(tmp_path, kind) as failing, mmap.mmap(-1, SIZE) as memory:
        memory[:] = os.urandom(SIZE)
        data = bytes(memory)
        files = [RecordFile(failing.folder / str(i), direct=True) for i in range(FILES)]
        for file in files:
            with memoryview(memory) as chunk:
                file.append(chunk)
                file.flush()
        failing.fail()
        with ThreadPoolExecutor(syncing) as pool:
            errors = list(pool.map(error_of_sync, files))
        for file in files:
            file.close()
        failing.unmount()
        failing.repair()
        failing.mount()
        for file, error in zip(files, errors, strict=True):
            claimed = file.synced_bytes if error is None else error.right_bytes
            assert file.path.read_bytes()[:claimed] == data[:claimed]
        assert any(errors)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_another_file_s_sync_makes_of_a_size(tmp_path: Path, kind: str) -> None:
    """Ext4 has the size of appended bytes on disk, and not the bytes: resumed, they are cut off."""
    data = os.urandom(SIZE)
    with small_disk(tmp_path, kind) as failing:
        path = failing.folder / "out"
        file = RecordFile(path)
        with memoryview(data) as chunk:
            file.append(chunk[:1000])
            file.sync()
            file.append(chunk[1000:4000])
            file.flush()
        with open(failing.folder / "another", "wb") as another:
            os.fsync(another.fileno())
        failing.fail()
        file.close()
        failing.unmount()
        failing.repair()
        failing.mount()
        assert path.stat().st_size == (4000 if kind == "ext4" else 1000)
        assert path.read_bytes()[1000:] == bytes(path.stat().st_size - 1000)
        file = RecordFile(path, resume=True)
        assert file.position == 1000
        with memoryview(data) as chunk:
            file.append(chunk[1000:])
            file.finish()
        assert path.read_bytes() == data
