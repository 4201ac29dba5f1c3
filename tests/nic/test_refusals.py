"""Cards and wishes that cannot be: one line, nothing changed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pyzcrx
from pyzcrx import nic
from pyzcrx.nic.ntuple import Ntuple
from tests.guest.card import PATIENCE_S, run
from tests.nic.card import JOURNALS, Card, lacks
from tests.sim.fresh import zcrx_nic


@pytest.fixture
def ntuple(card: Card) -> Iterator[Ntuple]:
    """Its rules, which it takes only with the feature on."""
    before = card.state().features["rx-ntuple-filter"]
    run("ethtool", "-K", card.interface, "ntuple", "on")
    yield Ntuple(card.state().ifindex)
    run("ethtool", "-K", card.interface, "ntuple", "on" if before else "off")


def refused(*options: str) -> str:
    """The one line of a ``zcrx-nic`` that fails."""
    done = zcrx_nic(*options, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("zcrx-nic: ")
    return done.stderr


@contextmanager
def link(*words: str) -> Iterator[None]:
    run("ip", "link", "add", *words)
    try:
        yield
    finally:
        run("ip", "link", "del", words[0])


@contextmanager
def listening(port: int) -> Iterator[None]:
    """A program of somebody else on *port*."""
    with subprocess.Popen(["socat", f"TCP-LISTEN:{port},fork", "/dev/null"]) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while f":{port}" not in run("ss", "-Hltn"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("kind", "driver"), [(("type", "dummy"), "dummy"), (("type", "veth"), "veth")]
)
def test_interfaces_that_are_no_cards(kind: tuple[str, ...], driver: str) -> None:
    with link("plain0", *kind):
        run("ip", "link", "set", "plain0", "up")
        text = refused("setup", "plain0", "-q", "0")
    assert f"plain0 (driver {driver}) has no header split" in text
    assert "NODEV" in text


def test_loopback_and_nothing() -> None:
    assert "has no header split" in refused("setup", "lo", "-p", "9999")
    assert "no such interface" in refused("setup", "nonesuch0", "-q", "1")
    assert "no such interface" in refused("show", "nonesuch0")
    assert "is no flow" in refused("setup", "lo", "-f", "all of it")


def test_a_card_that_is_down(card: Card) -> None:
    run("ip", "link", "set", card.interface, "down")
    try:
        assert f"ip link set {card.interface} up" in refused("setup", card.interface, "-p", "9999")
    finally:
        run("ip", "link", "set", card.interface, "up")
        deadline = time.monotonic() + PATIENCE_S
        while not card.state().carrier:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_another_programs_port(card: Card) -> None:
    with listening(2222):
        text = refused("setup", card.interface, "-p", "2222")
        assert "would take data from the socket listening on" in text
        assert "port 2222" in text
        assert zcrx_nic("setup", card.interface, "-p", "2222", "--force").returncode == 0
    zcrx_nic("restore", card.interface)


def test_all_ports(card: Card) -> None:
    flow = f"tcp4 dst {card.server}:*"
    assert "remote logins" in refused("setup", card.interface, "-f", flow)


def test_a_full_rule_table(card: Card, ntuple: Ntuple) -> None:
    lacks(card, "takes 20 ms for each rule, and the model has room for 512")
    found = ntuple.rules()
    assert found is not None
    places = []
    try:
        for port in range(1, found[1] + 1):
            places.append(ntuple.insert(nic.Flow("tcp4", dst_port=port), queue=0))
        with pytest.raises(pyzcrx.errors.RuleTableFull, match="rule table is full"):
            ntuple.insert(nic.Flow("tcp4", dst_port=60000), queue=0)
        text = refused("setup", card.interface, "-f", f"tcp4 dst {card.server}:60000")
        assert f"{found[1]} of {found[1]} rules are taken" in text
    finally:
        for place in places:
            ntuple.delete(place)


def test_a_rule_that_is_there_already(card: Card, ntuple: Ntuple) -> None:
    flow = nic.Flow.parse(f"tcp4 dst {card.server}:9999")
    place = ntuple.insert(flow, queue=0)
    try:
        assert f"rule {place} is for" in refused("setup", card.interface, "-f", str(flow))
    finally:
        ntuple.delete(place)


def test_a_queue_that_is_held(card: Card) -> None:
    ifindex = card.state().ifindex
    with (
        nic.prepare(ifindex, queue=2),
        pyzcrx.Ring() as ring,
        pyzcrx.Area.anonymous(4 << 20) as area,
    ):
        ring.register_ifq(area, interface=ifindex, rx_queue=2, timeout=PATIENCE_S)
        with pytest.raises(
            pyzcrx.errors.NicBusy, match=f"queue 2 of {card.interface} is held by io_uring"
        ):
            nic.prepare(ifindex, queue=2)


def test_without_privilege(card: Card) -> None:
    script = (
        "import pyzcrx; from pathlib import Path; from pyzcrx import nic\n"
        f"try: nic.prepare({card.interface!r}, queue=1, folder=Path('/run/user-test/nic'))\n"
        "except pyzcrx.errors.NotPermitted as error: print(error)"
    )
    Path("/run/user-test").mkdir(mode=0o700)
    run("chown", "65534", "/run/user-test")
    try:
        text = run(
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "python3",
            "-c",
            script,
        )
    finally:
        run("rm", "-r", "/run/user-test")
    assert "needs CAP_NET_ADMIN" in text


def test_a_damaged_journal(card: Card) -> None:
    state = card.state()
    folder = JOURNALS / f"{state.netns}-{state.ifindex}"
    with nic.prepare(card.interface, queue=1):
        pass
    (folder / "1-1.json").write_text("{")
    text = refused("restore")
    aside = folder / "1-1.damaged"
    assert str(aside) in text
    assert aside.read_text() == "{"
    (folder / "1-1.json").write_text("{")
    with pytest.warns(nic.NicWarning, match="is damaged"), nic.prepare(card.interface, queue=1):
        pass
    aside.unlink()
