"""What becomes of a guest that dies, hangs or talks nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.errors import BootFailed, HungGuest, LostGuest
from vm.frames import Kind
from vm.process import Process
from vm.session import Session

from .conftest import Start

HELLO = """
import os, sys, time
from vm.frames import Decoder, Kind, encode, encode_json
channel = int(sys.argv[1])
os.write(channel, encode_json(Kind.HELLO, release="none"))
"""
WAIT_FOR_START = """
while not any(frame.kind is Kind.START for frame in Decoder().feed(os.read(channel, 65536))):
    pass
"""


def begin(session: Session) -> Process:
    session.answer(Kind.HELLO, 30)
    process = session.add(
        lambda number: Process(session, number, ["cmd"], input=None, stdout=None, stderr=None)
    )
    process.begin(cwd="/", env={}, terminal=None)
    return process


def test_hello(start: Start) -> None:
    hello = start().answer(Kind.HELLO, 30).json()
    assert hello["release"]


def test_qemu_that_refuses_says_why(start: Start) -> None:
    session = start("import sys; sys.exit('qemu: no such device')")
    with pytest.raises(BootFailed, match="qemu: no such device"):
        session.answer(Kind.HELLO, 30)


def test_a_boot_that_dies_shows_the_console(start: Start) -> None:
    session = start("import sys; open(sys.argv[2], 'a').write('[1.0] VFS: no root\\n')")
    with pytest.raises(BootFailed) as caught:
        session.answer(Kind.HELLO, 30)
    assert caught.value.details == ("[1.0] VFS: no root",)


@pytest.mark.parametrize(
    ("console", "cause"),
    [
        (
            "[9.0] Oops: int3: 0000 [#1] SMP NOPTI\n[9.1] Kernel panic - not syncing: Fatal\n",
            r"its kernel panicked: Oops: int3: 0000 \[#1\] SMP NOPTI$",
        ),
        ("[9.0] x\npyzcrx-init: no /dev/vda\n[9.1] reboot: machine restart\n", "no /dev/vda$"),
        ("pyzcrx-agent: no port\n[9.1] Kernel panic - not syncing: kill init\n", "agent: no port$"),
        ("[9.0] x\n", "QEMU ended with status 0$"),
    ],
    ids=["panic", "init", "agent", "silence"],
)
def test_a_boot_that_dies_says_why(start: Start, console: str, cause: str) -> None:
    session = start(f"import sys; open(sys.argv[2], 'a').write({console!r})")
    with pytest.raises(BootFailed, match=f"(?m){cause}") as caught:
        session.answer(Kind.HELLO, 30)
    assert list(caught.value.details) == console.splitlines()
    assert caught.value.__notes__ == ["\n".join(console.splitlines())]


def test_a_boot_that_takes_too_long(start: Start) -> None:
    session = start("import time; time.sleep(1000)")
    with pytest.raises(BootFailed, match=r"within 0 s"):
        session.answer(Kind.HELLO, 0.1)


def test_death_under_a_command(start: Start) -> None:
    process = begin(start(HELLO + WAIT_FOR_START + "sys.exit('out of memory')"))
    with pytest.raises(LostGuest, match="out of memory"):
        process.wait(30)


def test_panic_under_a_command(start: Start) -> None:
    panic = "[ 9.0] Kernel panic - not syncing: Fatal exception\\n"
    script = HELLO + WAIT_FOR_START + f"open(sys.argv[2], 'a').write('{panic}')"
    process = begin(start(script))
    with pytest.raises(LostGuest, match="panicked") as caught:
        process.wait(30)
    assert "Kernel panic" in caught.value.details[-1]
    assert not isinstance(caught.value, HungGuest)


def test_silence_is_a_hang(start: Start) -> None:
    process = begin(start(HELLO + "time.sleep(1000)", hang_seconds=1.0))
    with pytest.raises(HungGuest, match="no sign of life"):
        process.wait(30)


def test_heartbeats_are_no_silence(start: Start) -> None:
    beats = "for _ in range(60): os.write(channel, encode(Kind.BEAT)); time.sleep(0.1)\n"
    answer = "os.write(channel, encode_json(Kind.EXIT, 1, status=5)); time.sleep(1000)"
    process = begin(start(HELLO + beats + answer, hang_seconds=5.0))
    assert process.wait(30).returncode == 5


def test_a_guest_that_takes_no_input_is_hung(start: Start) -> None:
    beats = "while True: os.write(channel, encode(Kind.BEAT)); time.sleep(0.1)"
    session = start(HELLO + beats, hang_seconds=1.0)
    session.answer(Kind.HELLO, 30)
    for _ in range(64):
        session.send(bytes(65536))
    with pytest.raises(HungGuest, match="took no input"):
        session.check()


def test_nonsense(start: Start) -> None:
    process = begin(start(HELLO + WAIT_FOR_START + "os.write(channel, b'x' * 100)"))
    with pytest.raises(LostGuest, match="nonsense"):
        process.wait(30)


def test_nothing_starts_in_a_dead_guest(start: Start) -> None:
    session = start(HELLO + "time.sleep(1000)")
    session.answer(Kind.HELLO, 30)
    session.kill()
    with pytest.raises(LostGuest):
        begin(session)


def test_the_agent_ends_with_its_host(start: Start) -> None:
    session = start()
    session.answer(Kind.HELLO, 30)
    session.end()  # not PID 1: it exits instead of powering off
    assert session.pid is not None
    assert not Path(f"/proc/{session.pid}").exists()
