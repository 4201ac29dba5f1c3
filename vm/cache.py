"""Things made once and kept: ``$XDG_CACHE_HOME/pyzcrx/KIND/KEY/``.

The key is a hash of all that an entry is made from. An entry is made in a temporary
sibling and renamed into place, so it is whole or absent; its manifest tells later damage.
One lock a kind: of two builders one builds, the other waits and finds the result.

Every user of an entry holds a shared lock on its manifest for as long as it may open
files in it, and removal needs that lock alone: nobody loses a file under their hands.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vm import scratch

MANIFEST = "manifest.json"
TEMPORARY = ".making-"


def root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pyzcrx"


def key(*parts: bytes | str) -> str:
    """A name for what is made from these parts; no two lists of parts share one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:20]


class Entry:
    """A finished entry. Keep the object while files below ``path`` are needed."""

    def __init__(self, path: Path, held: int) -> None:
        self.path = path
        self.release = weakref.finalize(self, os.close, held)

    def __truediv__(self, name: str) -> Path:
        return self.path / name


def obtain(kind: str, name: str, make: Callable[[Path], None], *, keep: int) -> Entry:
    """The entry ``name``, made by ``make(folder)`` if it is absent or damaged.

    Of each kind the ``keep`` entries used last stay, the others go.
    """
    folder = root() / kind
    folder.mkdir(parents=True, exist_ok=True)
    scratch.sweep(folder, TEMPORARY)
    target = folder / name
    if entry := _open(target):  # the common case takes no lock that a build could hold
        return entry
    with _locked(folder / "lock"):
        if entry := _open(target):
            return entry
        _clear_ruins(folder)
        with scratch.folder(folder, TEMPORARY) as making:
            make(making)
            _seal(making)
            shutil.rmtree(target, ignore_errors=True)
            making.rename(target)
        entry = _open(target)
        if entry is None:
            raise OSError(f"{target} vanished while it was made")
        _prune(folder, keep)
        return entry


def _open(target: Path) -> Entry | None:
    try:
        held = os.open(target / MANIFEST, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    entry = Entry(target, held)
    fcntl.flock(held, fcntl.LOCK_SH)
    if not _whole(target, os.pread(held, os.fstat(held).st_size, 0)):
        entry.release()
        return None
    os.utime(target)  # what the pruner orders by
    return entry


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            yield str(path.relative_to(folder)), path.stat().st_size


def _seal(folder: Path) -> None:
    body = json.dumps({"files": dict(_files(folder))}, indent=1).encode()
    (folder / MANIFEST).write_bytes(body + b"\n" + hashlib.sha256(body).hexdigest().encode())


def _whole(folder: Path, manifest: bytes) -> bool:
    """Sizes, not contents: a checksum of the image would cost more than the boot."""
    body, _, checksum = manifest.rpartition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        return False
    return bool(json.loads(body)["files"] == dict(_files(folder)))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep() -> None:
    """Remove what dead builders of any kind left."""
    for folder in root().glob("*"):
        scratch.sweep(folder, TEMPORARY)


def _clear_ruins(folder: Path) -> None:
    """Entries that lost their manifest."""
    for path in folder.iterdir():
        ours = path.is_dir() and not path.name.startswith(TEMPORARY)
        if ours and not (path / MANIFEST).is_file():
            shutil.rmtree(path, ignore_errors=True)


def _prune(folder: Path, keep: int) -> None:
    entries = [path for path in folder.iterdir() if (path / MANIFEST).is_file()]
    entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[keep:]:
        with (path / MANIFEST).open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path, ignore_errors=True)


def forget(kind: str, name: str) -> None:
    """Remove an entry, whoever may be using it: their open files stay readable."""
    folder = root() / kind
    if folder.is_dir():
        with _locked(folder / "lock"):
            shutil.rmtree(folder / name, ignore_errors=True)
