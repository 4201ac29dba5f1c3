"""The facts, read. Changes nothing; what cannot be seen is said to be unseen."""

from __future__ import annotations

import gzip
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pyzcrx._kernel.memory import PAGE
from pyzcrx.doctor.facts import (
    Card,
    Facts,
    HugePages,
    Kernel,
    Leftover,
    Machine,
    Memory,
    Privilege,
    RingUser,
    Wanted,
)
from pyzcrx.errors import JournalError
from pyzcrx.nic.irq import parse_cpus
from pyzcrx.nic.journal import ROOT_FOLDER, Store, default_folder
from pyzcrx.nic.read import read as read_card
from pyzcrx.nic.state import State
from pyzcrx.nic.steps import Steer
from pyzcrx.probe import probe
from pyzcrx.uapi import OP_RECV_ZC

PROC = Path("/proc")
SYS = Path("/sys")
_CAP_NET_ADMIN, _CAP_IPC_LOCK, _CAP_SYS_ADMIN = 12, 14, 21
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD  # include/linux/proc_ns.h: PROC_USER_INIT_INO
_OPTION = re.compile(r"CONFIG_(\w+)=(.*)")


def read(interface: str | None, wanted: Wanted | None = None) -> Facts:
    """Everything about this process and machine, and that interface if one is named.

    wanted: the queue and what is to be registered on it. Raises NoSuchInterface.
    """
    return Facts(
        kernel=_kernel(),
        privilege=_privilege(),
        memory=_memory(),
        machine=_machine(),
        wanted=wanted or Wanted(),
        card=None if interface is None else _card(interface),
        drivers=_drivers() if interface is None else {},
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.lstrip("-").isdecimal() else None


def _kernel() -> Kernel:
    config, source = _config()
    return Kernel(probe(), config, source, _number(PROC / "sys/kernel/io_uring_disabled"))


def _config() -> tuple[Mapping[str, str] | None, str]:
    files = (PROC / "config.gz", Path(f"/boot/config-{os.uname().release}"))
    for path in files:
        try:
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
        except (OSError, EOFError):
            continue
        found = (_OPTION.fullmatch(line) for line in text.decode(errors="replace").splitlines())
        return {match[1]: match[2] for match in found if match}, str(path)
    return None, "neither " + " nor ".join(map(str, files)) + " can be read"


def _privilege() -> Privilege:
    status = dict(
        line.split(":", 1)
        for line in (PROC / "self/status").read_text().splitlines()
        if ":" in line
    )
    effective = int(status["CapEff"], 16)
    return Privilege(
        net_admin=bool(effective >> _CAP_NET_ADMIN & 1),
        ipc_lock=bool(effective >> _CAP_IPC_LOCK & 1),
        sys_admin=bool(effective >> _CAP_SYS_ADMIN & 1),
        initial_user_namespace=os.stat("/proc/self/ns/user").st_ino == _INITIAL_USER_NAMESPACE,
        seccomp=int(status.get("Seccomp", 0)) == 2,
    )


def _memory() -> Memory:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    available = re.search(r"MemAvailable:\s*(\d+) kB", _text(PROC / "meminfo") or "")
    huge = []
    for folder in sorted(SYS.glob("kernel/mm/hugepages/hugepages-*kB")):
        total, free = _number(folder / "nr_hugepages"), _number(folder / "free_hugepages")
        size_kb = int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
        huge.append(HugePages(size_kb << 10, total or 0, free or 0))
    transparent = re.search(
        r"\[(\w+)\]", _text(SYS / "kernel/mm/transparent_hugepage/enabled") or ""
    )
    return Memory(
        memlock_bytes=None if limit == resource.RLIM_INFINITY else limit,
        available_bytes=int(available[1]) << 10 if available else None,
        page_bytes=PAGE,
        huge=tuple(huge),
        transparent_huge=transparent[1] if transparent else None,
    )


def _machine() -> Machine:
    nodes = {}
    for folder in SYS.glob("devices/system/node/node[0-9]*"):
        cpus = _text(folder / "cpulist")
        if cpus:
            nodes[int(folder.name.removeprefix("node"))] = parse_cpus(cpus)
    dmi = SYS / "class/dmi/id"
    names = filter(None, (_text(dmi / name) for name in ("sys_vendor", "product_name")))
    return Machine(frozenset(os.sched_getaffinity(0)), nodes, " ".join(names) or None)


def _drivers() -> Mapping[str, str]:
    """The driver of each interface that has a device below it."""
    links = sorted(SYS.glob("class/net/*/device/driver"))
    return {link.parts[-3]: os.path.basename(_link(link)) for link in links}


def _card(interface: str) -> Card:
    state = read_card(interface)
    users: tuple[RingUser, ...] = ()
    unseen = 0
    if any(queue.io_uring for queue in state.queues):
        users, unseen = _ring_users()
    return Card(
        state=state,
        virtual=not (SYS / "class/net" / state.interface / "device").exists(),
        ring_users=users,
        unseen_processes=unseen,
        leftovers=_leftovers(state),
        urgent_cleared=_urgent_cleared(),
        device=_device(state.interface),
    )


def _device(interface: str) -> str | None:
    folder = SYS / "class/net" / interface / "device"
    ids = [_text(folder / name) for name in ("vendor", "device")]
    return ":".join(text.removeprefix("0x") for text in ids if text) if all(ids) else None


def _leftovers(state: State) -> tuple[Leftover, ...] | None:
    """What the NIC's journals say, ours and root's; None where they cannot be seen."""
    leftovers = []
    for folder in {default_folder(), ROOT_FOLDER}:
        try:
            found = Store(state.netns, state.ifindex, folder).peek()
        except JournalError:
            return None
        for name, journal in found.items():
            if isinstance(journal, str):
                leftovers.append(Leftover(name, 0, (), 0, journal))
                continue
            owner = journal.owner
            kind = "stale" if owner.dead else "kept" if owner.kept else "live"
            rules = tuple(step for step in journal.steps if isinstance(step, Steer))
            leftovers.append(
                Leftover(name, owner.pid, journal.queues, len(journal.steps), kind, rules)
            )
    return tuple(leftovers)


def _ring_users() -> tuple[tuple[RingUser, ...], int]:
    """Processes with a ring, or a share in an ifq, and how many could not be looked into."""
    users, unseen = [], 0
    for folder in PROC.glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            fds = list((folder / "fd").iterdir())
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue  # it has ended
        rings = [fd for fd in fds if _link(fd) in ("anon_inode:[io_uring]", "anon_inode:[zcrx]")]
        if rings:
            infos = (_text(folder / "fdinfo" / fd.name) or "" for fd in rings)
            receiving = any(f"op={OP_RECV_ZC}," in info for info in infos)
            users.append(RingUser(int(folder.name), _text(folder / "comm") or "?", receiving))
    return tuple(users), unseen


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _urgent_cleared() -> bool | None:
    """Whether a rule of nftables looks at the URG flag; None: nft is missing or refused."""
    nft = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if nft is None:
        return None
    done = subprocess.run([nft, "list", "ruleset"], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return re.search(r"tcp flags .*\burg\b", done.stdout) is not None
