"""Folders of work under way: removed at the end, and after a death by the next who comes.

The folder's own flock says whether anybody is at work in it. Its maker holds the lock, and so
does every program that the maker starts (``vm.external``): a lock that is free proves that
all of them are dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vm import external

Remove = Callable[[Path], object]


def remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def folder(parent: Path, prefix: str, remove: Remove = remove_tree) -> Iterator[Path]:
    """A fresh folder in ``parent``; its end is that of the context, unless it was renamed."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_dir():  # nobody has swept it before we had the lock
            break
        os.close(lock)
    try:
        with external.inheriting(lock):
            yield path
    finally:
        if path.exists():
            remove(path)
        os.close(lock)


def sweep(parent: Path, prefix: str, remove: Remove = remove_tree) -> None:
    """Remove what the dead left there, as far as it is ours."""
    for path in parent.glob(f"{prefix}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    remove(path)
        finally:
            os.close(lock)
