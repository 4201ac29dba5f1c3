"""The demo believes nothing: what came back and what was counted must agree with what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from vm import cli, demo, emulator, image, module, wheel
from vm.demo import Card, DemoFailed, Gve, Server, Sim, Steps
from vm.errors import BuildFailed


class Machine:
    """Answers the demo's commands from a table."""

    def __init__(self, digests: tuple[str, str], counted: int) -> None:
        self._digests = digests
        self._counted = counted
        self.ran: list[Sequence[str]] = []

    def run(self, argv: Sequence[str]) -> str:
        self.ran.append(argv)
        if argv[0] == "sha256sum":
            return "".join(f"{digest}  file\n" for digest in self._digests)
        if argv[0] == "ethtool" and argv[1] == "-S":
            return "NIC:\n  rx1_zc_bytes: 75\n  rx1_page_bytes: 25\n  rx1_linear_bytes: 0"
        return ""

    @contextmanager
    def echo(self, card: Card) -> Iterator[Server]:
        counted = self._counted

        class Running:
            port = 5

            def figures(self) -> dict[str, Any]:
                return {"bytes": counted, "bytes_zero_copy": 0, "buffers": 7}

        assert card.options
        yield Running()


def stream(machine: Machine, card: Card) -> demo.Outcome:
    return demo.stream(machine, card, "/x", 100, Steps())


def test_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = stream(Machine(("ab", "ab"), 100), Card())
    assert (outcome.digest, outcome.zero_copied) == ("ab", 0.0)
    demo._show(outcome, Card(), "here")
    text = capsys.readouterr().out
    assert "identical" in text
    assert "zero-copied  0.0%" in text
    assert "copied       100.0%" in text
    assert "NODEV" in text


def test_the_client_of_the_card_is_on_its_other_end() -> None:
    machine = Machine(("ab", "ab"), 100)
    assert stream(machine, Sim()).zero_copied == 0.75
    (client,) = [argv[2] for argv in machine.ran if argv[0] == "sh" and "socat" in argv[2]]
    assert client.startswith("ip netns exec peer socat")
    assert f"TCP:{Sim.server}:5" in client


class Modelled(Machine):
    def run(self, argv: Sequence[str]) -> str:
        if argv[0].endswith("/ask.py"):
            return json.dumps({"queues": {"0": {"whole_bytes": 9}, "1": {"split_bytes": 100}}})
        return super().run(argv)


def test_the_modelled_nics_books_are_asked() -> None:
    machine = Modelled(("ab", "ab"), 100)
    assert stream(machine, Gve()).zero_copied == 1.0
    assert machine.ran[0] == ["/run/pyzcrx/gve/setup"]


@pytest.mark.parametrize("other", ["--nodev", "--native"])
def test_gve_goes_with_a_guest_and_a_nic(other: str) -> None:
    done = CliRunner().invoke(cli.main, ["demo", "--gve", other])
    assert (done.exit_code, len(done.stderr.splitlines())) == (122, 1)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (Machine(("ab", "cd"), 100), "not what was sent"),
        (Machine(("ab", "ab"), 99), "received 99 bytes, not 100"),
    ],
)
def test_disagreement_fails(machine: Machine, text: str) -> None:
    with pytest.raises(DemoFailed, match=text):
        stream(machine, Card())


def test_a_server_that_does_not_start_is_quoted() -> None:
    """By its last line; the others are the log."""
    with pytest.raises(DemoFailed, match="no such interface"):
        demo._port("zcrx-echo: register ifq: ENODEV: no such interface\n", str)
    with pytest.raises(DemoFailed, match=r"did not start: ImportError: cffi$") as caught:
        demo._port("Traceback:\n", lambda: "  line 1\nImportError: cffi\n")
    assert caught.value.details == ("Traceback:", "  line 1")
    with pytest.raises(DemoFailed, match="it said nothing"):
        demo._port("", str)
    assert demo._port("zcrx-echo: listening on :: port 4711 (NODEV)\n", str) == 4711


def test_a_card_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its log; the demo does not go on without."""

    def fail(*_: object) -> None:
        raise BuildFailed("mmdebstrap failed (exited with 25)", ["the reason"])

    monkeypatch.setattr(wheel, "obtain", lambda _wanted: None)
    monkeypatch.setattr(image, "obtain", lambda: None)
    monkeypatch.setattr(module, "for_guest", fail)
    monkeypatch.setattr(demo, "Guest", lambda _config: pytest.fail("a guest was booted"))
    done = CliRunner().invoke(cli.main, ["demo"])
    assert done.exit_code == 122
    assert done.stderr.splitlines() == [
        "  | the reason",
        "vm: error: mmdebstrap failed (exited with 25)",
    ]
    assert "NODEV" not in done.output


def test_a_qemu_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made beside the image, and its failure is told as if it were not."""

    def fail() -> None:
        raise BuildFailed("mmdebstrap failed", ["the reason"])

    monkeypatch.setattr(wheel, "obtain", lambda _wanted: None)
    monkeypatch.setattr(image, "obtain", lambda: None)
    monkeypatch.setattr(emulator, "obtain", fail)
    monkeypatch.setattr(demo, "Guest", lambda _config: pytest.fail("a guest was booted"))
    done = CliRunner().invoke(cli.main, ["demo", "--gve"])
    assert done.exit_code == 122
    assert done.stderr.splitlines() == ["  | the reason", "vm: error: mmdebstrap failed"]


@pytest.mark.parametrize(
    ("arguments", "card"), [((), Sim), (("--nodev",), Card), (("--gve",), Gve)]
)
def test_nodev_is_only_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], card: type[Card]
) -> None:
    seen: list[Card] = []

    class Booted:
        kvm = False
        release = "7.3"

        def __enter__(self) -> Booted:
            return self

        def __exit__(self, *_: object) -> None: ...

    def stream(_machine: object, card: Card, *_: object) -> demo.Outcome:
        seen.append(card)
        return demo.Outcome({"bytes": 1, "buffers": 1}, 1.0, "ab", 0.0)

    monkeypatch.setattr(wheel, "obtain", lambda _wanted: None)
    monkeypatch.setattr(image, "obtain", lambda: None)
    monkeypatch.setattr(emulator, "obtain", lambda: None)
    for each in (Sim, Gve):
        monkeypatch.setattr(each, "shares", lambda _self: ())
    monkeypatch.setattr(demo, "Guest", lambda _config: Booted())
    monkeypatch.setattr(demo, "stream", stream)
    assert CliRunner().invoke(cli.main, ["demo", *arguments]).exit_code == 0
    assert [type(each) for each in seen] == [card]
