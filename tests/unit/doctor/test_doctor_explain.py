"""An errno of a registration has several causes; the facts tell which."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from pyzcrx._kernel.meanings import kernel_error
from pyzcrx.doctor import (
    Facts,
    Severity,
    Wanted,
    after_trial,
    examine,
    explain,
    ready,
    try_out,
)
from pyzcrx.nic.state import Lease
from tests.unit.doctor.facts import MEMORY, PRIVILEGE, facts, on_card, rings
from tests.unit.doctor.test_doctor_checks import LAST, held

LARGE = Wanted(queue=LAST, rx_buf_len=32768)

TABLE = [
    (errno.EPERM, facts(privilege=replace(PRIVILEGE, net_admin=False)), "lacks CAP_NET_ADMIN"),
    (
        errno.EPERM,
        facts(privilege=replace(PRIVILEGE, initial_user_namespace=False)),
        "user namespace",
    ),
    (errno.EINVAL, facts(card=on_card(rings=rings(tcp_data_split=False))), "split is off"),
    (errno.EINVAL, facts(card=on_card(rings=rings(hds_thresh=1))), "hds-thresh is 1"),
    (errno.EINVAL, facts(), "not asked for"),
    (errno.EINVAL, facts(wanted=LARGE), "refuses an rx_buf_len of 32768"),
    (errno.EINVAL, facts(card=None, wanted=Wanted()), "no ZCRX_REG_NODEV"),
    (errno.EOPNOTSUPP, facts(card=on_card(driver="netdevsim")), "not mapped for DMA"),
    (errno.EOPNOTSUPP, facts(card=replace(on_card(driver="x"), virtual=True)), "DMA"),
    (errno.EOPNOTSUPP, facts(card=on_card(driver="newnic")), "no zcrx queue operations"),
    (errno.EOPNOTSUPP, facts(wanted=LARGE), "cannot do an rx_buf_len of 32768"),
    (errno.EOPNOTSUPP, facts(card=None, wanted=replace(LARGE, queue=None)), "NODEV knows no"),
    (errno.EEXIST, facts(card=held(io_uring=True)), "held by io_uring"),
    (errno.EEXIST, facts(card=held(dmabuf=1)), "held by dmabuf 1"),
    (errno.EEXIST, facts(card=on_card(xdp_program=7)), "XDP program 7"),
    (errno.EEXIST, facts(), "on its way back"),
    (errno.EBUSY, facts(card=held(xsk=True)), "AF_XDP"),
    (errno.EBUSY, facts(card=held(lease=Lease(9, 1, None))), "lease"),
    (errno.EOPNOTSUPP, facts(card=held(lease=Lease(9, 1, None))), "lease"),
    (errno.ERANGE, facts(wanted=Wanted(queue=9)), "has no queue 9"),
    (errno.ERANGE, facts(wanted=LARGE), "not contiguous"),
    (
        errno.ENOMEM,
        facts(
            memory=replace(MEMORY, memlock_bytes=1 << 20),
            privilege=replace(PRIVILEGE, ipc_lock=False),
        ),
        "RLIMIT_MEMLOCK",
    ),
    (errno.ENOMEM, facts(memory=replace(MEMORY, available_bytes=1 << 20)), "are available"),
    (errno.ENOMEM, facts(), "could not be pinned"),
    (errno.ENODATA, facts(), "ignored the memory provider"),
    (errno.ENODEV, facts(), "no such interface"),
]


@pytest.mark.parametrize(
    ("number", "of", "cause"), TABLE, ids=[f"{errno.errorcode[n]}-{c}" for n, _, c in TABLE]
)
def test_cause_and_hint(number: int, of: Facts, cause: str) -> None:
    operation = "register ifq NODEV" if of.card is None else "register ifq"
    found = explain(kernel_error(number, operation), of, examine(of))
    assert found.severity is Severity.PROBLEM
    assert cause in found.what
    assert found.hint


def test_a_trial_that_works_settles_what_was_unknown() -> None:
    findings = examine(facts(card=on_card(driver="newnic")))
    assert {"card.split", "card.driver"} <= {f.id for f in findings}
    worked = replace(findings[0], id="trial", severity=Severity.OK)
    after = after_trial(worked, findings)
    assert not {"card.split", "card.driver"} & {f.id for f in after}
    assert after[-1] is worked
    failed = replace(worked, severity=Severity.PROBLEM)
    assert not ready(after_trial(failed, findings))
    assert len(after_trial(failed, findings)) == len(findings) + 1


def test_no_trial_where_no_queue_can_be_seen() -> None:
    case = facts(card=on_card(queues=(), channels=None, up=False), wanted=Wanted())
    found = try_out(case, examine(case))
    assert found.severity is Severity.UNKNOWN
    assert found.hint == "ip link set eth0 up"
