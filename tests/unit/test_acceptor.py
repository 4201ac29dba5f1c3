"""Room for connections."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pyzcrx.cli.acceptor import EACH, SPARE

ROOM = """
import os, resource, sys
from pyzcrx.cli.acceptor import make_room
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
room = make_room(wanted)
print(len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)[0], room)
"""


def room(soft: int, hard: int, wanted: int) -> tuple[int, int, int]:
    """Descriptors in use, the soft limit afterwards, and how many there is room for."""
    argv = [sys.executable, "-P", "-c", ROOM, *map(str, (soft, hard, wanted))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    used, limit, found = map(int, done.stdout.split())
    return used, limit, found


def test_the_soft_limit_is_raised_to_what_is_needed() -> None:
    used, limit, found = room(64, 2048, 300)
    assert (limit, found) == (used + SPARE + 300 * EACH, 300)


def test_it_is_not_lowered() -> None:
    assert room(512, 1024, 10)[1:] == (512, 10)


def test_there_is_no_more_than_the_hard_limit_has() -> None:
    used, limit, found = room(64, 64, 300)
    assert (limit, found) == (64, (64 - used - SPARE) // EACH)


@pytest.mark.parametrize("hard", [8, 16])
def test_there_is_room_for_one(hard: int) -> None:
    assert room(hard, hard, 300)[1:] == (hard, 1)
