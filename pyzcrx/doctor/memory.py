"""Memory for areas: what may be pinned, and huge pages."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts, HugePages
from pyzcrx.doctor.finding import Finding, Severity

_MIB = 1 << 20


def check(facts: Facts) -> Iterator[Finding]:
    yield _memlock(facts)
    yield from _available(facts)
    yield from _huge(facts)


def mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.0f} MiB" if size_bytes >= _MIB else f"{size_bytes >> 10} KiB"


def _memlock(facts: Facts) -> Finding:
    limit, area = facts.memory.memlock_bytes, facts.wanted.area_bytes
    if facts.privilege.ipc_lock or limit is None:
        reason = "CAP_IPC_LOCK" if facts.privilege.ipc_lock else "no limit"
        return Finding("memory.memlock", Severity.OK, f"memory may be pinned ({reason})")
    if limit >= area + _MIB:  # the rings are charged, too
        return Finding("memory.memlock", Severity.OK, f"{mib(limit)} of memory may be pinned")
    return Finding(
        "memory.memlock",
        Severity.PROBLEM,
        f"only {mib(limit)} may be pinned (RLIMIT_MEMLOCK), an area of {mib(area)} does not fit",
        "an area's pages are pinned and charged to the user who made the ring, unless it had "
        "CAP_IPC_LOCK then; beyond the limit: ENOMEM",
        f"ulimit -l {(area >> 10) + 1024}, LimitMEMLOCK=infinity in its systemd unit, or a "
        "smaller area",
    )


def _available(facts: Facts) -> Iterator[Finding]:
    available, area = facts.memory.available_bytes, facts.wanted.area_bytes
    if available is not None and available < area:
        yield Finding(
            "memory.available",
            Severity.PROBLEM,
            f"{mib(available)} of memory are available, the area wants {mib(area)}",
            "an area cannot be swapped out",
            "free memory, or use a smaller area",
        )


def _huge(facts: Facts) -> Iterator[Finding]:
    memory, wanted = facts.memory, facts.wanted
    free = [pool for pool in memory.huge if pool.free]
    if free:
        texts = ", ".join(f"{pool.free} of {mib(pool.size_bytes)}" for pool in free)
        yield Finding("memory.huge", Severity.OK, f"huge pages are free: {texts}")
        return
    transparent = memory.transparent_huge in ("always", "madvise")
    large = wanted.rx_buf_len > memory.page_bytes
    size_bytes = min((pool.size_bytes for pool in memory.huge), default=2 * _MIB)
    yield Finding(
        "memory.huge",
        Severity.WARNING if large and not transparent else Severity.NOTE,
        "no huge pages are reserved" + (" (transparent ones may be had)" if transparent else ""),
        f"buffers of {wanted.rx_buf_len} bytes need memory in runs of that length, or: ERANGE"
        if large
        else "areas of huge pages register faster and allow large rx_buf_len",
        _reserve(facts, size_bytes),
    )


def _reserve(facts: Facts, size_bytes: int) -> str:
    pool = next((p for p in facts.memory.huge if p.size_bytes == size_bytes), None)
    total = pool.total if isinstance(pool, HugePages) else 0
    pages = -(-facts.wanted.area_bytes // size_bytes)
    return (
        f"echo {total + pages} > /sys/kernel/mm/hugepages/hugepages-{size_bytes >> 10}kB/"
        "nr_hugepages"
    )
