"""Who may register: CAP_NET_ADMIN, and where it must be had."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Severity
from pyzcrx.probe import Presence

UNIT = "AmbientCapabilities=CAP_NET_ADMIN CAP_IPC_LOCK in its systemd unit"


def check(facts: Facts) -> Iterator[Finding]:
    privilege, probe = facts.privilege, facts.kernel.probe
    why = "a registration is answered with EPERM; a zcrx process sees what any socket receives"
    if not privilege.initial_user_namespace:
        yield Finding(
            "privilege.user_namespace",
            Severity.PROBLEM,
            "this process is in a user namespace of its own",
            f"CAP_NET_ADMIN counts only in the initial one: {why}",
            "run outside of the container, or in one without a user namespace (rootful, "
            "--cap-add NET_ADMIN)",
        )
    elif not privilege.net_admin:
        yield Finding(
            "privilege.net_admin",
            Severity.PROBLEM,
            "this process lacks CAP_NET_ADMIN",
            why,
            f"run as root, or give the program {UNIT}",
        )
    elif probe.zcrx is Presence.PRESENT and probe.permitted is False:
        yield Finding(
            "privilege.security_module",
            Severity.PROBLEM,
            "this process has CAP_NET_ADMIN, yet the registration is answered with EPERM",
            "a security module (SELinux, AppArmor) may withhold it",
            "see dmesg and the audit log (ausearch -m avc)",
        )
    else:
        yield Finding("privilege.net_admin", Severity.OK, "this process has CAP_NET_ADMIN")
