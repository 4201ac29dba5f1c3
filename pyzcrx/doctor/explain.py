"""An errno of a registration, explained by what is seen of the machine and the NIC.

The kernel says nothing but the number (its extack is NULL), and most numbers have several
causes. The findings tell which it is.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.errors import KernelError, errno_name

CAUSES: dict[int, tuple[str, ...]] = {
    errno.EPERM: (
        "kernel.io_uring_disabled",
        "kernel.seccomp",
        "privilege.user_namespace",
        "privilege.net_admin",
        "privilege.security_module",
    ),
    errno.ENOSYS: ("kernel.io_uring",),
    errno.EINVAL: ("kernel.zcrx", "card.split", "card.hds_thresh"),
    errno.EOPNOTSUPP: ("kernel.zcrx", "card.driver", "card.up", "queue.lease", "queue.exists"),
    errno.EEXIST: ("queue.holder", "card.xdp"),
    errno.EBUSY: ("queue.holder", "queue.lease"),
    errno.ERANGE: ("queue.exists", "queue.fixed"),
    errno.ENOMEM: ("memory.memlock", "memory.available"),
    errno.ENODATA: ("card.driver",),
}
"""Findings that explain an errno, in the order in which the kernel looks."""


def explain(error: KernelError, facts: Facts, findings: Sequence[Finding]) -> Finding:
    """Why a trial failed with *error*, as a finding "trial".

    By *facts*, and the *findings* over them.
    """
    found = _cause(error.errno or 0, facts, findings)
    name = errno_name(error.errno or 0)
    if found is None:
        found = Finding("trial", Severity.PROBLEM, error.cause, hint=error.hint)
    # Why, and what --fix may do, stand with the finding itself.
    return Finding(
        "trial",
        Severity.PROBLEM,
        f"a registration fails with {name}: {found.what}",
        found.why if found.id == "trial" else "",
        found.hint,
    )


def _cause(number: int, facts: Facts, findings: Sequence[Finding]) -> Finding | None:
    by_id = {finding.id: finding for finding in findings}
    candidates = [by_id[name] for name in CAUSES.get(number, ()) if name in by_id]
    certain = next((c for c in candidates if c.severity is Severity.PROBLEM), None)
    if certain is not None:
        return certain
    if (special := _special(number, facts)) is not None:
        return special
    return next((c for c in candidates if c.severity is Severity.UNKNOWN), None)


def _special(number: int, facts: Facts) -> Finding | None:
    """Causes that only the registration itself shows."""
    wanted = facts.wanted
    large = bool(wanted.rx_buf_len) and wanted.rx_buf_len != facts.memory.page_bytes
    what = why = hint = ""
    match number:
        case errno.EINVAL if large:
            what = f"the driver refuses an rx_buf_len of {wanted.rx_buf_len}"
            why = "drivers take a page up to their own maximum"
            hint = "a smaller rx_buf_len, or none"
        case errno.EINVAL if facts.card is not None:
            what = "header split was not asked for: the driver's own choice does not count"
            why = "the kernel looks at what was configured, which cannot be read back"
            hint = f"ethtool -G {facts.card.state.interface} tcp-data-split on"
        case errno.EOPNOTSUPP if large and facts.card is None:
            what = f"NODEV knows no rx_buf_len of {wanted.rx_buf_len}, only a page"
            hint = "leave rx_buf_len out"
        case errno.EOPNOTSUPP if large:
            what = f"the driver cannot do an rx_buf_len of {wanted.rx_buf_len}"
            why = "it has no rx_page_size parameter (bnxt and mlx5 have)"
            hint = "leave rx_buf_len out"
        case errno.EOPNOTSUPP if facts.card is not None:
            what = "the driver has no zcrx queue operations"
            hint = "use a NIC with zcrx support (bnxt, mlx5, gve, fbnic), or NODEV"
        case errno.ERANGE if large:
            what = f"the area is not contiguous in runs of {wanted.rx_buf_len} bytes"
            why = "a buffer must lie in one piece of physical memory"
            hint = "an area of huge pages, in multiples of one (huge='2M')"
        case errno.EEXIST:
            what = "the queue was bound a moment ago, or is on its way back"
            why = "the kernel gives a queue back after its user has ended, by itself"
            hint = "try again; register_ifq(timeout=5) waits for it"
        case _:
            return None
    return Finding("trial", Severity.PROBLEM, what, why, hint)
