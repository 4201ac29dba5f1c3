"""The kernel: whether it has zcrx, and what its version of it can do."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts, Kernel
from pyzcrx.doctor.finding import Finding, Fix, Severity
from pyzcrx.probe import Presence, Probe
from pyzcrx.uapi import CtrlOp, Feature, RegisterFlag

NEEDED = ("IO_URING", "PAGE_POOL", "INET", "NET_RX_BUSY_POLL", "IO_URING_ZCRX")
"""Build options without which there is no zcrx (``io_uring/Kconfig``)."""
OTHER_KERNEL = (
    "boot a kernel of 6.15 or newer with CONFIG_IO_URING_ZCRX; on Debian 13: "
    "apt install -t trixie-backports linux-image-amd64"
)


def check(facts: Facts) -> Iterator[Finding]:
    yield _zcrx(facts)
    yield from _config(facts.kernel)
    yield from _abilities(facts.kernel.probe)


def _zcrx(facts: Facts) -> Finding:
    probe = facts.kernel.probe
    match probe.zcrx:
        case Presence.PRESENT:
            return Finding("kernel.zcrx", Severity.OK, f"Linux {probe.kernel} has zcrx")
        case Presence.COMPILED_OUT:
            what = f"Linux {probe.kernel} was built without zcrx"
            why = "CONFIG_IO_URING_ZCRX is off, so a registration is answered with EOPNOTSUPP"
        case Presence.UNKNOWN_TO_KERNEL:
            what = f"Linux {probe.kernel} does not know zcrx"
            why = "zcrx came with Linux 6.15; older kernels answer a registration with EINVAL"
        case Presence.NO_IO_URING:
            return _no_io_uring(facts)
    return Finding("kernel.zcrx", Severity.PROBLEM, what, why, OTHER_KERNEL)


def _no_io_uring(facts: Facts) -> Finding:
    """No ring could be made: find out who forbids it."""
    number, disabled = facts.kernel.probe.ring_errno, facts.kernel.io_uring_disabled
    if number == errno.EPERM and (
        disabled == 2 or (disabled == 1 and not facts.privilege.sys_admin)
    ):
        whom = "everybody" if disabled == 2 else "all but a group and CAP_SYS_ADMIN"
        command = "sysctl kernel.io_uring_disabled=0"
        return Finding(
            "kernel.io_uring_disabled",
            Severity.PROBLEM,
            f"io_uring is switched off for {whom} (kernel.io_uring_disabled is {disabled})",
            "zcrx is a part of io_uring; making a ring is answered with EPERM",
            command,
            Fix("sysctl:kernel.io_uring_disabled", 0, command),
        )
    if number == errno.EPERM:
        return Finding(
            "kernel.seccomp",
            Severity.PROBLEM,
            "io_uring is refused with EPERM though it is not switched off: "
            + ("a seccomp filter is on" if facts.privilege.seccomp else "a security module?"),
            "container run-times forbid io_uring by default",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp "
            "profile (docker, podman: --security-opt seccomp=PROFILE.json)",
        )
    return Finding(
        "kernel.io_uring",
        Severity.PROBLEM,
        f"no ring can be made: {facts.kernel.probe.notes[0]}",
        "zcrx is a part of io_uring",
        OTHER_KERNEL,
    )


def _config(kernel: Kernel) -> Iterator[Finding]:
    if kernel.config is None:
        yield Finding(
            "kernel.config",
            Severity.UNKNOWN,
            f"the kernel's build options cannot be seen ({kernel.config_source})",
            "they only explain what is missing; what works was tried",
        )
        return
    missing = [name for name in NEEDED if kernel.config.get(name) != "y"]
    if missing:
        yield Finding(
            "kernel.config",
            Severity.NOTE if kernel.probe.zcrx is Presence.PRESENT else Severity.PROBLEM,
            f"{kernel.config_source} lacks " + ", ".join(f"CONFIG_{name}" for name in missing),
            "zcrx is built when all of them are",
            "build a kernel with them: scripts/config -e " + " -e ".join(missing),
        )


def _abilities(probe: Probe) -> Iterator[Finding]:
    if probe.zcrx is not Presence.PRESENT:
        return
    if not probe.query:
        yield Finding(
            "kernel.abilities",
            Severity.UNKNOWN,
            "the kernel does not say which of zcrx's later features it has",
            "kernels before 7.0 or so do not answer; pyzcrx tries, and does without",
        )
        return
    has = {
        "NODEV": bool(probe.register_flags and RegisterFlag.NODEV in probe.register_flags),
        "FLUSH_RQ": CtrlOp.FLUSH_RQ in (probe.ctrl_ops or ()),
        "ADD_AREA": CtrlOp.ADD_AREA in (probe.ctrl_ops or ()),
        "rx_buf_len": bool(probe.features and Feature.RX_PAGE_SIZE in probe.features),
        "copy counts": bool(probe.stats),
    }
    there = [name for name, present in has.items() if present]
    if there:
        yield Finding("kernel.abilities", Severity.OK, "it knows " + ", ".join(there))
    lacks = [name for name, present in has.items() if not present]
    if lacks:
        yield Finding(
            "kernel.lacks",
            Severity.NOTE,
            "it lacks " + ", ".join(lacks),
            "pyzcrx does without them, at the price of speed, growth or figures",
            "use Linux 7.3 or newer",
        )
