"""Ctrl-C of ``python -m vm run``: the first is the command's, whenever it comes."""

from __future__ import annotations

import signal
from typing import Any, cast

import pytest

from vm import terminal
from vm.guest import Guest


class Command:
    """A command, and the guest that it is begun in; Ctrl-C comes where *interrupted* says."""

    def __init__(self, *interrupted: str) -> None:
        self._interrupted = interrupted
        self.signals: list[int] = []

    def _reach(self, place: str) -> None:
        for each in self._interrupted:
            if each == place:
                signal.raise_signal(signal.SIGINT)

    def spawn(self, _argv: list[str], **_streams: Any) -> Command:
        self._reach("begin")
        return self

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def wait(self, _timeout: float | None) -> str:
        self._reach("wait")
        return "over"


def run(command: Command) -> object:
    return terminal.run(cast("Guest", command), ["true"], timeout=None)


@pytest.mark.parametrize("place", ["begin", "wait"])
def test_the_first_goes_to_the_command(place: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its output may be seen, and answered, before spawn() is back."""
    before = signal.getsignal(signal.SIGINT)
    command = Command(place)
    assert run(command) == "over"
    assert command.signals == [signal.SIGINT]
    assert capfd.readouterr().err.count("once more ends the guest") == 1
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("places", "signals"), [(("begin", "begin"), 0), (("begin", "wait"), 1), (("wait", "wait"), 1)]
)
def test_the_second_ends_the_guest(places: tuple[str, str], signals: int) -> None:
    command = Command(*places)
    with pytest.raises(KeyboardInterrupt):
        run(command)
    assert command.signals == [signal.SIGINT] * signals


def test_nobody_is_signalled_without_one() -> None:
    command = Command()
    assert run(command) == "over"
    assert not command.signals
