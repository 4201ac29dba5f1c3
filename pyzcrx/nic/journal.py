"""What was done to a NIC, on disk before it is done, so that any end can be undone.

``/run/pyzcrx/nic/NETNS-IFINDEX/`` holds a journal for each set-up and a lock. A journal is
written whole, to a new file that takes the old one's place. Only root (or the user whose
folder it is) may have written there: journals say what is done to the NIC.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pyzcrx.errors import JournalError, NicBusy
from pyzcrx.nic import link
from pyzcrx.nic.state import State, load
from pyzcrx.nic.steps import KINDS, Step, kind_of

VERSION = 1
LOCK_TIMEOUT_S = 60.0
_LOCK_RETRY_S = 0.05
ROOT_FOLDER = Path("/run/pyzcrx/nic")
MOST_BYTES = 16 << 20
"""Of a journal: a hundred thousand steps."""
Unusable = Literal["damaged", "newer", "foreign"]
_BRIEF = 120
_KINDS_OF_FILE = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def default_folder() -> Path:
    """Root's, or for a user with CAP_NET_ADMIN his own."""
    uid = os.geteuid()
    return ROOT_FOLDER if uid == 0 else Path(f"/run/user/{uid}/pyzcrx/nic")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told from any other that ever has its number. pid 0: nobody, kept."""

    pid: int
    started: int
    """Clock ticks since boot, of ``/proc/PID/stat``."""
    boot: str
    pid_ns: int

    @classmethod
    def this(cls) -> Owner:
        pid = os.getpid()
        return cls(pid, _started(pid) or 0, _boot(), os.stat("/proc/self/ns/pid").st_ino)

    @classmethod
    def nobody(cls) -> Owner:
        """For what stays when the program ends (``zcrx-nic setup``)."""
        return replace(cls.this(), pid=0, started=0)

    @property
    def kept(self) -> bool:
        return self.pid == 0 and self.boot == _boot()

    @property
    def dead(self) -> bool:
        """Whether its process is gone. One of another PID namespace cannot be seen: it lives."""
        here = Owner.this()
        if self.boot != here.boot:
            return True
        if self.pid == 0 or self.pid_ns != here.pid_ns:
            return False
        return _started(self.pid) != self.started


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    words = text[text.rindex(")") + 2 :].split()
    return None if words[0] in "ZX" else int(words[19])


@dataclass(frozen=True, slots=True)
class Journal:
    """One set-up. Steps in their order; those behind *done* were only intended, at most one."""

    name: str
    owner: Owner
    since_ns: int
    """Of CLOCK_BOOTTIME: tells which of two came first."""
    netns: int
    interface: str
    ifindex: int
    driver: str | None
    bus: str | None
    queues: tuple[int, ...]
    steps: tuple[Step, ...]
    done: int

    @classmethod
    def begin(cls, state: State, queues: tuple[int, ...], owner: Owner) -> Journal:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return cls(
            f"{owner.pid}-{now}",
            owner,
            now,
            state.netns,
            state.interface,
            state.ifindex,
            state.driver,
            state.bus,
            queues,
            (),
            0,
        )

    def intending(self, step: Step) -> Journal:
        return replace(self, steps=(*self.steps, step))

    def having_done(self, step: Step) -> Journal:
        """The last step turned out so."""
        return replace(self, steps=(*self.steps[:-1], step), done=len(self.steps))

    def to_json(self) -> str:
        plain = {name: getattr(self, name) for name in _PLAIN} | {"owner": asdict(self.owner)}
        steps = [{"kind": kind_of(step), **asdict(step)} for step in self.steps]
        return json.dumps({"version": VERSION, **plain, "steps": steps}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Journal:
        """Raises Newer, or ValueError where it is none."""
        try:
            return cls._from_plain(json.loads(text))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        except KeyError as error:
            raise ValueError(f"it has no {error}") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None

    @classmethod
    def _from_plain(cls, plain: Any) -> Journal:
        version = plain.pop("version", None) if isinstance(plain, dict) else None
        if type(version) is int and version > VERSION:
            raise Newer(f"of version {version}, and this pyzcrx reads {VERSION}")
        if type(version) is not int or version != VERSION:
            raise ValueError(f"not a journal of version {VERSION}")
        steps = tuple(_step(step) for step in plain.pop("steps"))
        owner = load(Owner, plain.pop("owner"))
        head = load(_Head, plain)
        if not 0 <= head.done <= len(steps) <= head.done + 1:
            raise ValueError("steps and their count do not fit")
        values = {name: getattr(head, name) for name in _PLAIN}
        return cls(**values, owner=owner, steps=steps)


def _step(plain: Any) -> Step:
    step: Step = load(KINDS[plain.pop("kind")], plain)
    step.check()
    return step


class Newer(ValueError):
    """A journal of a later version: only the pyzcrx that wrote it can undo it."""


class _Foreign(ValueError):
    """What lies in a journal's place and is no file of ours."""


@dataclass(frozen=True, slots=True)
class _Head:
    name: str
    since_ns: int
    netns: int
    interface: str
    ifindex: int
    driver: str | None
    bus: str | None
    queues: tuple[int, ...]
    done: int


_PLAIN = tuple(_Head.__dataclass_fields__)


class Store:
    """The journals of one NIC. Everything but reading wants :meth:`locked`."""

    def __init__(self, netns: int, ifindex: int, folder: Path | None = None) -> None:
        self.path = (folder or default_folder()) / f"{netns}-{ifindex}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One program at a time changes a NIC. Raises NicBusy, JournalError."""
        make_safe(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with _problems(self.path):
            fd = os.open(self.path / "lock", flags, 0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise NicBusy(
                            f"another program has been changing this NIC for {LOCK_TIMEOUT_S:.0f}"
                            " s",
                            f"see who holds {self.path / 'lock'} (fuser -v)",
                        ) from None
                    time.sleep(_LOCK_RETRY_S)
            yield
        finally:
            os.close(fd)

    def save(self, journal: Journal) -> None:
        with _problems(self.path):
            whole = self.path / f"{journal.name}.json"
            part = self.path / f"{journal.name}.part"
            with suppress(FileNotFoundError):
                part.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(part, flags, 0o600), "w") as file:
                file.write(journal.to_json())
                file.flush()
                os.fsync(file.fileno())
            part.rename(whole)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, journal: Journal) -> None:
        with _problems(self.path), suppress(FileNotFoundError):
            (self.path / f"{journal.name}.json").unlink()

    def load(self, name: str) -> Journal:
        """Raises JournalError where it cannot be used. A damaged one is moved aside."""
        path = self.path / f"{name}.json"
        try:
            return self._read(path)
        except Newer as error:
            raise JournalError(
                f"journal {path} is {error}",
                "it is left as it is: run zcrx-nic restore of the newer pyzcrx",
            ) from None
        except _Foreign as error:
            raise JournalError(
                f"{path} is no journal: {error}", "see who put it there and remove it"
            ) from None
        except ValueError as error:
            aside = path.with_suffix(".damaged")
            with _problems(self.path):
                path.rename(aside)
            raise JournalError(
                f"journal {path} is damaged ({_brief(error)}); it is kept as {aside}",
                "what its program changed was not put back: compare zcrx-nic show with what "
                "the NIC should be, and delete the file",
            ) from None

    def _read(self, path: Path) -> Journal:
        """Raises JournalError where it cannot be read; Newer, _Foreign, ValueError."""
        try:
            _check_file(path.lstat())  # before it is opened: that alone may act on a device
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            with open(os.open(path, flags), "rb") as file:
                _check_file(os.fstat(file.fileno()))
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise JournalError(
                f"journal {path} cannot be read: {error.strerror}",
                "read it as root" if error.errno in (errno.EACCES, errno.EPERM) else "see dmesg",
            ) from None
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        journal = Journal.from_json(data.decode())
        if (journal.name, self.path.name) != (path.stem, f"{journal.netns}-{journal.ifindex}"):
            raise ValueError("it is another's")
        return journal

    def peek(self) -> dict[str, Journal | Unusable]:
        """All by name, or what is wrong with one. Changes nothing. Raises JournalError."""
        found: dict[str, Journal | Unusable] = {}
        for name in self.names():
            try:
                found[name] = self._read(self.path / f"{name}.json")
            except Newer:
                found[name] = "newer"
            except _Foreign:
                found[name] = "foreign"
            except ValueError:
                found[name] = "damaged"
        return found

    def names(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(p.stem for p in self.path.iterdir() if p.suffix == ".json"))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise JournalError(f"{self.path} cannot be read: {error.strerror}") from None

    def journals(self) -> tuple[list[Journal], list[str]]:
        """All that can be read, the oldest first, and what is wrong with the others."""
        found, wrong = [], []
        try:
            names = self.names()
        except JournalError as error:
            return [], [str(error)]
        for name in names:
            try:
                found.append(self.load(name))
            except JournalError as error:
                wrong.append(str(error))
        return sorted(found, key=lambda journal: journal.since_ns), wrong


def _brief(error: Exception) -> str:
    """Its text; it may quote a value of the journal, which may be long."""
    text = str(error)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]} ..."


def _check_file(status: os.stat_result) -> None:
    """Raises _Foreign."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS_OF_FILE.get(stat.S_IFMT(status.st_mode), "something else")
        raise _Foreign(f"it is {kind}")
    if status.st_uid not in (0, os.geteuid()):
        raise _Foreign(f"it belongs to user {status.st_uid}")


def stores(folder: Path | None = None) -> tuple[Store, ...]:
    """Of every NIC of this network namespace that has journals."""
    folder = folder or default_folder()
    here = link.netns()
    found = []
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise JournalError(f"{folder} cannot be read: {error.strerror}") from None
    for name in names:
        netns, _, ifindex = name.partition("-")
        number = int(ifindex) if ifindex.isascii() and ifindex.isdecimal() else 0
        if (netns, ifindex) == (str(here), str(number)) and 0 < number < 1 << 31:
            found.append(Store(here, number, folder))
    return tuple(found)


def make_safe(path: Path) -> None:
    """Make a folder that only we can write to, or check that it is one. Raises JournalError."""
    trusted = (0, os.geteuid())
    with _problems(path):
        for part in (*reversed(path.parents), path):
            # /run itself and what is above are the system's.
            with suppress(FileExistsError):
                part.mkdir(0o700 if part != Path("/run/pyzcrx") else 0o755)
            status = part.lstat()
            if not stat.S_ISDIR(status.st_mode):
                raise JournalError(f"{part} is no folder", "see who put it there and remove it")
            loose = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
            if status.st_uid not in trusted or loose:
                raise JournalError(
                    f"{part} can be written to by others than root and us",
                    f"chown root {part}; chmod go-w {part}",
                )
        if path.lstat().st_mode & 0o077:
            raise JournalError(f"{path} is open to others", f"chmod 700 {path}")


@contextmanager
def _problems(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        hint = "run as root" if refused else "see its file system"
        raise JournalError(f"{path}: {error.strerror}", hint) from None
