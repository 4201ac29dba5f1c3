"""Each errno of a registration, provoked: the error is typed, and the doctor names its cause.

docs/reference/registration-errnos.md has the table; where a row cannot be provoked here, it
says what stands in.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import pyzcrx
from pyzcrx import doctor
from pyzcrx.doctor import Finding, Wanted
from pyzcrx.nic import Flow
from pyzcrx.nic.netdev import Netdev
from pyzcrx.uapi import RegisterFlag, Setup
from tests.guest.card import PATIENCE_S, Sim, register, run
from tests.guest.echo import send_all
from tests.sim import refusals
from tests.sim.rings import HDS_THRESH, Rings

MIB = 1 << 20


@pytest.fixture(autouse=True)
def free(sim: Sim) -> Iterator[None]:
    sim.queue_free()
    # That bound it once more: until it is back, XDP and leases are refused as well.
    deadline = time.monotonic() + PATIENCE_S
    with Netdev() as netdev:
        while netdev.queue(socket.if_nametoindex(sim.interface), sim.queue).io_uring:
            assert time.monotonic() < deadline, "the queue was not given back"
            time.sleep(0.02)
    yield
    run("ethtool", "-G", sim.interface, "tcp-data-split", "on")


def refusal(interface: str | None, queue: int | None, **options: Any) -> pyzcrx.KernelError:
    """The typed error of a registration."""
    area_bytes = options.pop("area_bytes", 4 * MIB)
    huge = options.pop("huge", None)
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(area_bytes, huge=huge) as area:
        with pytest.raises(pyzcrx.KernelError) as caught:
            ring.register_ifq(area, interface=interface, rx_queue=queue, **options)
        assert area.token is None
    return caught.value


def diagnosis(interface: str | None, queue: int | None, **wanted: Any) -> Finding:
    """What the doctor says of a trial."""
    facts = doctor.read(interface, Wanted(queue, **wanted))
    return doctor.try_out(facts, doctor.examine(facts))


def doctor_command(*prefix: str, options: tuple[str, ...] = ()) -> Finding:
    """What ``zcrx-doctor --trial`` says of it, run by *prefix*."""
    done = subprocess.run(
        [*prefix, "zcrx-doctor", "--json", "--trial", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["findings"][-1]
    assert found["id"] == "trial"
    return Finding(**found | {"severity": doctor.Severity(found["severity"]), "fix": None})


def check(found: Finding, name: str, cause: str, hint: str) -> None:
    assert found.severity is doctor.Severity.PROBLEM
    assert f"fails with {name}: " in found.what
    assert cause in found.what
    assert hint in found.hint


# -- EPERM -----------------------------------------------------------------------


def card_options(sim: Sim) -> tuple[str, ...]:
    return "-i", sim.interface, "-q", str(sim.queue)


def test_eperm_without_the_capability(sim: Sim) -> None:
    prefix = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    found = doctor_command(*prefix, options=card_options(sim))
    check(found, "EPERM", "lacks CAP_NET_ADMIN", "run as root")


def test_eperm_in_a_user_namespace(sim: Sim) -> None:
    found = doctor_command("unshare", "--user", "--map-root-user", options=card_options(sim))
    check(found, "EPERM", "user namespace", "run outside")


def test_eperm_where_io_uring_is_off(sim: Sim) -> None:
    with refusals.setting("/proc/sys/kernel/io_uring_disabled", "2"):
        with pytest.raises(pyzcrx.errors.NotPermitted, match="io_uring_disabled"):
            pyzcrx.Ring()
        found = diagnosis(sim.interface, sim.queue)
    check(found, "EPERM", "switched off for everybody", "sysctl kernel.io_uring_disabled=0")


def test_eperm_by_seccomp(sim: Sim) -> None:
    found = doctor_command(sys.executable, "-c", refusals.SECCOMP, options=card_options(sim))
    check(found, "EPERM", "a seccomp filter is on", "seccomp profile")


# -- EINVAL ----------------------------------------------------------------------


def test_einval_with_header_split_off(sim: Sim) -> None:
    run("ethtool", "-G", sim.interface, "tcp-data-split", "off")
    assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.InvalidRequest)
    check(diagnosis(sim.interface, sim.queue), "EINVAL", "header split is off", "tcp-data-split on")


def split_of(sim: Sim) -> str:
    findings = doctor.examine(doctor.read(sim.interface, Wanted(sim.queue)))
    return next(finding.what for finding in findings if finding.id == "card.split")


def test_einval_with_header_split_on_by_itself(sim: Sim) -> None:
    with refusals.setting("/sys/module/zcrxsim/parameters/split_auto", "Y"):
        run("ethtool", "-G", sim.interface, "tcp-data-split", "auto")
        assert "header split is on" in split_of(sim)
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.InvalidRequest)
        check(diagnosis(sim.interface, sim.queue), "EINVAL", "not asked for", "tcp-data-split on")


def test_einval_with_hds_thresh(sim: Sim) -> None:
    settings = Rings(sim.interface)
    settings.set(HDS_THRESH, 100)
    try:
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.InvalidRequest)
        check(diagnosis(sim.interface, sim.queue), "EINVAL", "hds-thresh is 100", "hds-thresh 0")
    finally:
        settings.set(HDS_THRESH, 0)
        settings.close()


def test_einval_of_an_rx_buf_len(sim: Sim) -> None:
    error = refusal(sim.interface, sim.queue, rx_buf_len=MIB, area_bytes=64 * MIB, huge="thp")
    assert error.errno == errno.EINVAL
    assert "rx_buf_len" in error.cause
    check(
        diagnosis(sim.interface, sim.queue, rx_buf_len=MIB),
        "EINVAL",
        f"refuses an rx_buf_len of {MIB}",
        "smaller rx_buf_len",
    )


def test_einval_of_arguments_that_pyzcrx_refuses_itself(sim: Sim) -> None:
    on_card = {"if_idx": socket.if_nametoindex(sim.interface), "if_rxq": sim.queue}
    nodev = {"flags": RegisterFlag.NODEV}
    raw = refusals.raw_registration
    assert raw(**nodev) == 0
    assert raw(rq_entries=0, **nodev) == errno.EINVAL
    assert raw(misalign=1, **nodev) == errno.EINVAL
    without = refusals.RING_FLAGS & ~Setup.CQE32
    assert raw(ring_flags=without, **on_card) == errno.EINVAL
    with (
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(MIB) as area,
        pytest.raises(pyzcrx.errors.BadArgument, match="rq_entries 0"),
    ):
        ring.register_ifq(area, rq_entries=0)


# -- EOPNOTSUPP --------------------------------------------------------------------


def test_eopnotsupp_of_a_device_without_dma(sim: Sim) -> None:
    del sim
    run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    try:
        run("ip", "link", "set", "veth0", "up")
        for interface in ("lo", "veth0"):
            assert isinstance(refusal(interface, 0), pyzcrx.errors.NotSupported)
            check(diagnosis(interface, 0), "EOPNOTSUPP", "no device that does DMA", "NODEV")
    finally:
        run("ip", "link", "delete", "veth0")


def test_eopnotsupp_of_nodev_with_an_rx_buf_len() -> None:
    error = refusal(None, None, rx_buf_len=65536)
    assert isinstance(error, pyzcrx.errors.NotSupported)
    check(
        diagnosis(None, None, rx_buf_len=65536),
        "EOPNOTSUPP",
        "NODEV knows no rx_buf_len",
        "leave rx_buf_len out",
    )


# -- EEXIST and EBUSY ----------------------------------------------------------------


def test_eexist_of_a_bound_queue(sim: Sim) -> None:
    with subprocess.Popen(
        ["zcrx-echo", "-i", sim.interface, "-q", str(sim.queue), "--no-setup-nic", "-p", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as echo:
        assert echo.stderr is not None
        assert "listening" in echo.stderr.readline()
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.QueueBound)
        found = diagnosis(sim.interface, sim.queue)
        echo.terminate()
    check(found, "EEXIST", "is held by io_uring zcrx", "end that program")
    assert f"zcrx-echo ({echo.pid})" in found.what


def test_eexist_of_an_xdp_program(sim: Sim) -> None:
    with refusals.xdp_program(sim.interface):
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.QueueBound)
        check(
            diagnosis(sim.interface, sim.queue),
            "EEXIST",
            "XDP program",
            f"ip link set {sim.interface} xdp off",
        )


def test_eexist_from_the_wrong_thread() -> None:
    """Raised by pyzcrx before the kernel is asked; what the kernel says has its row, too."""
    caught: list[BaseException] = []
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(MIB) as area:

        def use() -> None:
            try:
                ring.register_ifq(area)
            except pyzcrx.errors.WrongThread as error:
                caught.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert "one ring a thread" in str(caught[0])


def test_ebusy_of_an_af_xdp_socket(sim: Sim) -> None:
    with refusals.af_xdp_socket(sim.interface, sim.queue):
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.QueueBusy)
        check(
            diagnosis(sim.interface, sim.queue),
            "EBUSY",
            "is held by AF_XDP",
            "end the AF_XDP program",
        )


def test_eopnotsupp_of_a_leased_queue(sim: Sim) -> None:
    with refusals.lease(sim.interface, sim.queue):
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.NotSupported)
        check(
            diagnosis(sim.interface, sim.queue),
            "EOPNOTSUPP",
            "is held by a lease of interface",
            "register there",
        )


def test_enodata_of_a_driver_that_keeps_its_own_memory(sim: Sim) -> None:
    sim.fault(ignore_provider=1)
    try:
        assert isinstance(refusal(sim.interface, sim.queue), pyzcrx.errors.ProviderIgnored)
        check(
            diagnosis(sim.interface, sim.queue),
            "ENODATA",
            "ignored the memory provider",
            "update the driver",
        )
    finally:
        sim.fault(ignore_provider=0)


# -- ERANGE, ENODEV, ENOMEM -------------------------------------------------------------


def test_erange_of_the_queue(sim: Sim) -> None:
    assert isinstance(refusal(sim.interface, 5000), pyzcrx.errors.OutOfRange)
    check(diagnosis(sim.interface, 5000), "ERANGE", "has no queue 5000", "choose one of them")


def test_erange_of_an_area_in_pieces(sim: Sim) -> None:
    with refusals.setting("/sys/kernel/mm/transparent_hugepage/enabled", "never"):
        error = refusal(sim.interface, sim.queue, rx_buf_len=65536)
    assert isinstance(error, pyzcrx.errors.OutOfRange)
    facts = doctor.read(sim.interface, Wanted(sim.queue, rx_buf_len=65536))
    found = doctor.explain(error, facts, doctor.examine(facts))
    check(found, "ERANGE", "not contiguous", "huge pages")


def test_enodev(sim: Sim) -> None:
    del sim
    for interface in ("nosuch0", 9999):
        with (
            pyzcrx.Ring() as ring,
            pyzcrx.Area.anonymous(MIB) as area,
            pytest.raises(pyzcrx.errors.NoSuchInterface, match="ip link"),
        ):
            ring.register_ifq(area, interface=interface, rx_queue=0)
    with pytest.raises(pyzcrx.errors.NoSuchInterface, match="ip link"):
        doctor.read("nosuch0")


def test_enomem_of_memlock(sim: Sim) -> None:
    found = doctor_command(
        "prlimit",
        "--memlock=1048576",
        "setpriv",
        "--bounding-set=-ipc_lock",
        "--inh-caps=-ipc_lock",
        options=card_options(sim),
    )
    check(found, "ENOMEM", "only 1 MiB may be pinned", "ulimit -l")


# -- a registration that works, and what receiving says ------------------------------------


def test_a_trial_that_works_leaves_the_card_as_it_was(sim: Sim) -> None:
    facts = doctor.read(sim.interface, Wanted(sim.queue))
    found = doctor.try_out(facts, doctor.examine(facts))
    assert found.severity is doctor.Severity.OK
    after = doctor.read(sim.interface, Wanted(sim.queue))
    assert after.card is not None
    assert facts.card is not None
    assert after.card.state.queues == facts.card.state.queues
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 * MIB) as area:
        ring.register_ifq(area, interface=sim.interface, rx_queue=sim.queue)


def test_fix_sets_the_card_up(sim: Sim) -> None:
    run("ethtool", "-G", sim.interface, "tcp-data-split", "off")
    run("ethtool", "-X", sim.interface, "default")
    done = subprocess.run(
        [
            "zcrx-doctor",
            *card_options(sim),
            "--flow",
            "tcp4 dst 192.0.2.1:7777",
            "--fix",
            "--yes",
            "--trial",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["findings"][-1]["what"].startswith("a registration works")
    assert [line.removeprefix("fix: ") for line in done.stderr.splitlines()] == said["fixed"]
    assert len(said["fixed"]) == 3
    facts = doctor.read(sim.interface)
    assert facts.card is not None
    (rule,) = facts.card.state.rules or ()
    assert (rule.flow, rule.queue) == ("tcp4 dst 192.0.2.1:7777", sim.queue)
    run("ethtool", "-N", sim.interface, "delete", str(rule.location))


def test_what_is_no_stream(sim: Sim) -> None:
    del sim
    with pyzcrx.Ring() as ring, pyzcrx.Area.anonymous(4 * MIB) as area:
        ifq = register(ring, area)
        with (
            socket.socket(type=socket.SOCK_DGRAM) as udp,
            pytest.raises(pyzcrx.errors.NotTcp) as no_tcp,
        ):
            ifq.receive(udp)
        with (
            socket.create_server(("", 0)) as one,
            pytest.raises(pyzcrx.errors.NotConnected) as no_peer,
        ):
            ifq.receive(one)
    assert "IPPROTO_TCP" in no_tcp.value.hint
    assert "accept first" in no_peer.value.hint


def test_efault_of_a_flow_on_another_queue(sim: Sim) -> None:
    """Data lands in the ifq of queue 1, where RSS sends it; the request is on another's."""
    other = sim.queue + 1
    with pyzcrx.Ring() as ring:
        areas = [pyzcrx.Area.anonymous(4 * MIB) for _ in range(2)]
        ifqs = [
            ring.register_ifq(area, interface=sim.interface, rx_queue=queue, timeout=PATIENCE_S)
            for area, queue in zip(areas, (sim.queue, other), strict=True)
        ]
        with socket.create_server((sim.server, 0)) as listener, sim.socket() as client:
            client.connect(listener.getsockname())
            port = listener.getsockname()[1]
            sock, _ = listener.accept()
            with sock:
                send_all(client, bytes(100_000))
                ifqs[1].receive(sock)
                failed = [e for e in ring.events() if isinstance(e, pyzcrx.Failed)]
        error = failed[0].error
        assert isinstance(error, pyzcrx.errors.WrongQueue)
        assert "narrow the rule" in error.hint
        flow = Flow.parse(f"tcp4 dst {sim.server}:{port}")
        facts = doctor.read(sim.interface, Wanted(other, flow))
        found = {finding.id: finding for finding in doctor.examine(facts)}
    assert found["steering.flow"].severity is doctor.Severity.PROBLEM
    assert f"action {other}" in found["steering.flow"].hint
