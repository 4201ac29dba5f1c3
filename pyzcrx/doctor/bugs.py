"""Kernel bugs that zcrx meets: the table, and which of them the running kernel has.

docs/reference/kernel-bugs.md describes each under the same name, with its reproduction.
Versions are those of kernel.org: a distribution may have a fix in an older one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.probe import Presence

PAGE = "docs/reference/kernel-bugs.md"
SEEN = "7.3.4"
"""The newest kernel on which anything was looked at here."""
FIRST = "6.15"
"""The first one with zcrx."""


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug. Texts go into a finding: what happens, why it matters, what helps."""

    name: str
    what: str
    why: str
    around: str
    since: str = FIRST
    fixed: tuple[str, ...] = ()
    """First releases with the fix, one a branch, mainline's last; empty: none is known."""
    driver: str | None = None
    """Of this driver only."""
    nic: bool = False
    """On a NIC's queue only; NODEV is safe."""
    feature: str | None = None
    """Only while the NIC has this feature on."""
    severity: Severity | None = Severity.WARNING
    """None: no finding of its own, as nothing is to be done, or another check reports it."""

    def in_kernel(self, release: str) -> bool:
        """Whether that kernel has it, as far as is known."""
        version = _version(release)
        if version is None or version < _known(self.since):
            return False
        fixes = [_known(fix) for fix in self.fixed]
        if not fixes:
            return True
        return version < next((fix for fix in fixes if fix[:2] == version[:2]), fixes[-1])


BUGS = (
    Bug(
        "urgent-panic",
        "a TCP segment with the URG flag on a bound queue panics it",
        "tcp_urg() is a BUG() where payload lies in an area, and any peer can send one",
        "the nftables rules of pyzcrx.urgent, and pyzcrx.drop_urgent()",
        nic=True,
        severity=None,  # the check "urgent" sees whether the rules are loaded
    ),
    Bug(
        "urgent-clean-end",
        "a RECV_ZC request takes urgent data for the end of the stream",
        "bytes behind it are lost without an error",
        "pyzcrx reports UrgentDataLost",
        severity=None,
    ),
    Bug(
        "gro-unreadable",
        "software GRO merges readable with unreadable payload",
        "if a NIC leaves one TCP frame of a flow unsplit, TCP may read what is no page: an Oops, "
        "or a stream that stands still and cannot be killed",
        "ethtool -K IF gro off, unless the NIC is known to split every TCP frame",
        nic=True,
        feature="rx-gro",
    ),
    Bug(
        "refused-restart",
        "it warns where a driver refuses to restart a queue",
        "a failed registration leaves a WARN of napi_assert_will_not_race() (net/core/dev.h) in "
        "the log, which a machine with panic_on_warn does not survive",
        "do not register on a queue that the driver never restarts (queue 0)",
        driver="gve",
    ),
    Bug(
        "napi-dump-order",
        "it warns when NAPI instances are listed that are not in the order of their numbers",
        "netdev_nl_napi_dump_one() expects descending numbers, and a device that was reset may "
        "have others",
        "none is needed: the list is complete",
        driver="gve",
        severity=None,
    ),
    Bug(
        "gve-header-overflow",
        "a frame whose headers do not fit the header buffer panics it on a bound queue",
        "gve_rx_dqo() looks for headers in memory that it cannot read (NULL dereference in "
        "eth_get_headlen()); whether a real gVNIC ever reports such a frame is not known",
        "leave the queue unbound, as nothing else helps",
        driver="gve",
    ),
    Bug(
        "gve-rx-stall",
        "a gve queue that runs out of buffers may never receive again",
        "with fewer than 32 buffers shown to the NIC there is no interrupt that would refill it",
        "an area that never runs out (pyzcrx.area_advice), or pressure='grow'",
        fixed=("7.3",),
        driver="gve",
    ),
    Bug(
        "irq-affinity-lost",
        "an interrupt's new CPUs are forgotten if its queue restarts at once",
        "the queue's interrupt is back on its old CPUs",
        "set CPUs after the last restart, as pyzcrx.nic does",
        nic=True,
        severity=None,
    ),
    Bug(
        "splice-false-end",
        "splice() from a socket whose data lies in an area returns 0",
        "a program takes that for the end of the stream",
        "steer nothing else to the queue",
        nic=True,
        severity=None,
    ),
    Bug(
        "add-area-token",
        "a failed ZCRX_CTRL_ADD_AREA leaves rq_area_token set",
        "the next try with the same structure is refused with EINVAL",
        "clear it, as pyzcrx does",
        since="7.3",
        severity=None,
    ),
    Bug(
        "iou-zcrx-rst",
        "Documentation/networking/iou-zcrx.rst sets khead twice and never ktail",
        "a program written from it never returns a buffer",
        "the second line sets ktail",
        severity=None,
    ),
    Bug(
        "CVE-2026-43121",
        "buffers can be given back twice while a queue ends",
        "a race between io_zcrx_scrub() and the refill path writes beyond the free list",
        "end traffic before the queue's ring closes",
        fixed=("6.18.16", "6.19.6", "7.0"),
    ),
    Bug(
        "zcrx-freelist",
        "it does not check the free list of an area for room",
        "a buffer that is given back twice is written beyond its end; the race that did so is "
        "CVE-2026-43121",
        "a kernel with the fix of CVE-2026-43121",
        fixed=("7.0",),
        severity=Severity.NOTE,
    ),
    Bug(
        "CVE-2026-45995",
        "a user's memory account is used after it is freed as an ifq ends",
        "io_zcrx_ifq_free() gives the account back before the refill queue's memory",
        "keep another process of the same user alive",
        since="6.19",
        fixed=("7.0.4", "7.1"),
    ),
    Bug(
        "CVE-2026-43174",
        "a registration that fails late frees what page pools still use",
        "memory may be used after it is freed",
        "do not retry registrations that fail in a loop",
        fixed=("6.19.6", "7.0"),
        nic=True,
    ),
    Bug(
        "CVE-2025-40046",
        "a RECV_ZC request with a limit may receive more than that",
        "bytes that belong to the next reader of the socket are consumed, of merged packets",
        "receive without limit=",
        fixed=("6.17.3", "6.18"),
    ),
)


def check(facts: Facts) -> Iterator[Finding]:
    """Those that the running kernel has, and that this machine could meet."""
    probe = facts.kernel.probe
    if probe.zcrx is not Presence.PRESENT:
        return
    for bug in BUGS:
        if bug.severity is not None and bug.in_kernel(probe.kernel) and _concerns(bug, facts):
            yield _finding(bug, bug.severity, probe.kernel)


def _concerns(bug: Bug, facts: Facts) -> bool:
    state = facts.card.state if facts.card is not None else None
    if state is None:
        return not (bug.nic or bug.driver or bug.feature)
    if bug.feature is not None and not state.features.get(bug.feature):
        return False
    return bug.driver in (None, state.driver)


def _finding(bug: Bug, severity: Severity, release: str) -> Finding:
    newer = not bug.fixed and _known(release) > _known(SEEN)
    if bug.fixed:
        hint = f"fixed in {', '.join(bug.fixed)} (distributions: see their changelog)"
    else:
        hint = f"no fix is known (looked at: {SEEN})"
    return Finding(
        f"bug.{bug.name}",
        Severity.UNKNOWN if newer else severity,
        f"Linux {release} {'may have' if newer else 'has'} the bug {bug.name}: {bug.what}",
        bug.why,
        f"{hint}; until then: {bug.around}; see {PAGE}",
    )


def _version(release: str) -> tuple[int, int, int] | None:
    """``uname -r`` as numbers; a release candidate counts as its release."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    if found is None:
        return None
    return int(found[1]), int(found[2]), int(found[3] or 0)


def _known(release: str) -> tuple[int, int, int]:
    version = _version(release)
    assert version is not None
    return version
