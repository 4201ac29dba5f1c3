"""The pages' programs as a reader runs them: a process, real TCP, on the NIC if they want one."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.guest.card import CARD, Pair
from tests.guest.echo import send_all
from tests.pages import Block, blocks
from tests.patience import START_S, until

PROGRAMS = [
    block
    for block in blocks()
    if block.language == "python" and block.how.split()[0] in ("program", "root", "file")
]
CONSUME = """\
import atexit, hashlib
_digest = hashlib.sha256()
consume = _digest.update
atexit.register(lambda: print(_digest.hexdigest(), flush=True))
"""
PORT = 9999


def wants_a_nic(block: Block) -> bool:
    return "nic.prepare" in block.text


def connected(server: str, process: subprocess.Popen[str]) -> socket.socket:
    """A client's connection, once the program listens."""
    found: list[socket.socket] = []

    def try_to() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the program has ended: {process.communicate()[1]}")
        client = CARD.socket() if server != "127.0.0.1" else socket.socket()
        client.settimeout(START_S)
        with suppress(ConnectionRefusedError):
            client.connect((server, PORT))
            found.append(client)
            return True
        client.close()
        return False

    until(try_to, "the program does not listen", patience_s=START_S)
    return found[0]


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_receives_a_stream(block: Block, tmp_path: Path) -> None:
    if wants_a_nic(block) != isinstance(CARD, Pair):
        pytest.skip("expected: programs for a NIC run on one, those for NODEV without")
    text = block.text
    server = "192.0.2.1" if wants_a_nic(block) else "127.0.0.1"
    if isinstance(CARD, Pair):
        text = text.replace('"eth0"', f'"{CARD.interface}"')
    script = tmp_path / "program.py"
    script.write_text((CONSUME if "consume(" in text else "") + text)
    data = os.urandom(3 << 20)
    argv = [sys.executable, str(script)]
    if "sys.argv" in text:
        argv += [server, "zcrx0"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        with connected(server, process) as client:
            send_all(client, data)
        output, errors = process.communicate(timeout=START_S)
    assert process.returncode == 0, errors
    assert hashlib.sha256(data).hexdigest() in output.split()
