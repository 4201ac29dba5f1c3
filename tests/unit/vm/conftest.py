# ruff: noqa: A002 - `input` is what subprocess calls it
"""The real agent as an ordinary process of this machine, in QEMU's place.

Everything between a caller and a command runs as in a guest, but for the boot: the
channel, the session, the agent, its jobs. (It cannot be PID 1, so it never powers off.)
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from vm.console import Console
from vm.frames import Kind
from vm.process import Process, Sink
from vm.session import Session

# Started by nohup or in a script's background, we would pass on signals that are ignored.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

ROOT = Path(__file__).parents[3]
AGENT = """
import os, sys
from pathlib import Path
from vm.inside import jobs
from vm.inside.agent import Agent
jobs.CGROUPS = Path("/nonexistent")  # this machine's are not ours
os.set_blocking(int(sys.argv[1]), False)
Agent(int(sys.argv[1]), Path(sys.argv[2])).run()
"""


class Start(Protocol):
    """Runs a Python script in QEMU's place: its arguments are the channel and the log."""

    def __call__(self, script: str = AGENT, *, hang_seconds: float = 60.0) -> Session: ...


@pytest.fixture
def kernel_log(tmp_path: Path) -> Path:
    return tmp_path / "console"


@pytest.fixture
def start(kernel_log: Path) -> Iterator[Start]:
    sessions: list[Session] = []
    console = Console(kernel_log)

    def start(script: str = AGENT, *, hang_seconds: float = 60.0) -> Session:
        session = Session(
            lambda channel: [
                *("env", f"PYTHONPATH={ROOT}", sys.executable, "-u", "-c"),
                *(script, str(channel), str(kernel_log)),
            ],
            [],
            console,
            hang_seconds=hang_seconds,
        )
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.kill()
    console.close()


class Spawn(Protocol):
    def __call__(
        self,
        *argv: str,
        input: bytes | int | None = None,
        stdout: Sink | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Process: ...


@pytest.fixture
def session(start: Start) -> Session:
    session = start()
    session.answer(Kind.HELLO, 30)
    return session


@pytest.fixture
def spawn(session: Session, tmp_path: Path) -> Spawn:
    def spawn(
        *argv: str,
        input: bytes | int | None = None,
        stdout: Sink | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Process:
        def make(number: int) -> Process:
            args: Sequence[str] = argv
            return Process(session, number, args, input=input, stdout=stdout, stderr=None)

        process = session.add(make)
        environment = {"PATH": "/usr/bin:/bin", "MARK": "here"}
        process.begin(cwd=str(tmp_path), env=environment, terminal=terminal)
        return process

    return spawn
