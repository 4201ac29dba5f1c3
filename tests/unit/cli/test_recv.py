"""``zcrx-recv`` in this process, on the kernel in memory."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyzcrx.cli import recv
from pyzcrx.record.session import Session
from pyzcrx.testing import ModelKernel, ModelListener

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")
DATA = random.Random(5).randbytes(200_000)


class Recorder:
    """The command; *peers* is called with its listener before it accepts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch = monkeypatch
        self.out = folder / "out"

    def run(self, peers: Callable[[ModelListener], object], *arguments: str) -> Result:
        def listen(_host: str | None, _port: int) -> socket.socket:
            listener = kernel.listen()
            peers(listener)
            sock = socket.socket(fileno=os.dup(listener.fileno()))
            sock.bind(("127.0.0.1", 0))
            return sock

        with ModelKernel() as kernel:
            self._patch.setattr(recv, "listen", listen)
            words = ["-o", str(self.out), "--nodev", "--area", "1M", *arguments]
            result = CliRunner().invoke(recv.main, words)
            assert kernel.breaches == []
        return result


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield Recorder(monkeypatch, tmp_path)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def sends(*streams: bytes, end: bool = True) -> Callable[[ModelListener], None]:
    def peers(listener: ModelListener) -> None:
        for data in streams:
            sock = listener.connect()
            for at in range(0, len(data), 4096):
                sock.send(data[at : at + 4096])
            if end:
                sock.finish()

    return peers


@pytest.mark.parametrize("direct", ["--direct", "--no-direct"])
def test_one_stream_to_one_file(command: Recorder, direct: str) -> None:
    result = command.run(sends(DATA), direct, "--preallocate", "1M")
    assert result.exit_code == 0, result.output
    assert command.out.read_bytes() == DATA
    assert f"out: whole, {len(DATA)} bytes on disk" in result.stderr
    assert result.stdout == ""


def test_streams_and_parts(command: Recorder) -> None:
    streams = [DATA[i * 100 :] for i in range(11)]
    result = command.run(sends(*streams), "-j", "11", "--split-size", "64K", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["bytes"] == sum(map(len, streams))
    for i, (data, stats) in enumerate(zip(streams, figures["streams"], strict=True)):
        assert stats["files"] == [f"{command.out}.{i:02}.{part:03}" for part in range(4)]
        assert stats["synced_bytes"] == stats["position"] == len(data)
        assert stats["whole"] is True
        assert stats["error"] is None
        assert b"".join(Path(name).read_bytes() for name in stats["files"]) == data


def test_resumed(command: Recorder) -> None:
    command.out.write_bytes(DATA[:70_000])
    result = command.run(sends(DATA[70_000:]), "--resume")
    assert result.exit_code == 0, result.output
    assert "goes on at byte 70000 of the stream" in result.stderr
    assert command.out.read_bytes() == DATA


def test_a_file_that_exists_stays(command: Recorder) -> None:
    command.out.write_bytes(b"precious")
    result = command.run(sends(DATA))
    assert (result.exit_code, command.out.read_bytes()) == (1, b"precious")
    assert result.stderr == f"zcrx-recv: {command.out} exists; resume it, or remove it\n"


def test_all_files_or_none(command: Recorder) -> None:
    last = command.out.with_name("out.2")
    last.write_bytes(b"precious")
    result = command.run(sends(DATA), "-j", "3")
    assert (result.exit_code, list(command.out.parent.iterdir())) == (1, [last])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_what_arrived(
    command: Recorder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    turn, turns = Session.turn, 0

    def turn_and_signal(session: Session, timeout: float | None) -> None:
        nonlocal turns
        turn(session, timeout)
        turns += 1
        if turns == 50:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Session, "turn", turn_and_signal)
    result = command.run(sends(DATA, end=False), "-j", "2")
    assert result.exit_code == 128 + number, result.output
    first, second = (command.out.with_name(f"out.{i}") for i in range(2))
    assert first.read_bytes() == DATA
    assert not second.exists()
    assert "not whole: the recording was stopped before the stream's end" in result.stderr
    assert f"first {len(DATA)} bytes are right and on disk" in result.stderr
    assert "not whole: no connection came for it" in result.stderr


def test_figures_now_and_then(command: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 0.5
            return self.now

    monkeypatch.setattr(recv, "time", Clock())
    result = command.run(sends(DATA), "--stats-interval", "1", "--json")
    *others, last = map(json.loads, result.stdout.splitlines())
    assert others
    assert [each["bytes"] for each in others] == sorted(each["bytes"] for each in others)
    assert last["streams"][0]["whole"] is True


def test_more_streams_than_descriptors(command: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recv, "make_room", lambda wanted: wanted - 1)
    result = command.run(sends(), "-j", "100")
    assert result.exit_code == 1
    assert "ulimit -Hn leaves no room for 100 connections" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nodev"],
        ["-o", "", "--nodev"],
        ["-o", "/nosuch/folder/file", "--nodev"],
        ["-o", "{out}"],
        ["-o", "{out}", "--nodev", "-i", "lo"],
        ["-o", "{out}", "--nodev", "-j", "0"],
        ["-o", "{out}", "--nodev", "--split-size", "0"],
    ],
)
def test_wrong_command_lines(tmp_path: Path, arguments: list[str]) -> None:
    words = [word.format(out=tmp_path / "out") for word in arguments]
    assert CliRunner().invoke(recv.main, words).exit_code == 2
    assert list(tmp_path.iterdir()) == []
