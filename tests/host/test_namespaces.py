"""A namespace in which a socket is left is removed, and the test that left it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.namespaces import namespace, remove
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="expected: only root can make a network namespace"
)
LISTEN = """
import socket, sys
with socket.socket(socket.{family}) as sock:
    sock.listen()
    print("listening", flush=True)
    sys.stdin.read()
"""


def test_an_empty_one() -> None:
    with namespace("pyzcrx-empty") as name:
        assert Path("/run/netns", name).exists()
    assert not Path("/run/netns", name).exists()


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_one_with_a_socket(family: str) -> None:
    name = "pyzcrx-left"
    subprocess.run(["ip", "netns", "add", name], check=True)
    with subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-c", LISTEN.format(family=family)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        with pytest.raises(AssertionError, match=r"stay in the namespace[\s\S]*LISTEN"):
            remove(name, patience_s=0)
        process.communicate(timeout=PATIENCE_S)
    assert not Path("/run/netns", name).exists()
