"""Whom a process may become, and what it cannot do without being root."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import pyzcrx
from pyzcrx.privilege import User, drop


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("nobody", User(65534, 65534)),
        ("nobody:daemon", User(65534, 1)),
        ("65534", User(65534, 65534)),
        ("nobody:12345", User(65534, 12345)),
        ("54321:12345", User(54321, 12345)),
    ],
)
def test_users_are_names_or_numbers(text: str, user: User) -> None:
    assert User.parse(text) == user


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no user"),
        ("no such user", "no user"),
        ("nobody:", "no group"),
        ("nobody:no such group", "no group"),
        ("54321", "give a group"),
        ("-1", "no user"),
        ("root", "root"),
        ("0:1", "root"),
        ("nobody:root", "root"),
        ("nobody:0", "root"),
        ("4294967295:1", "out of range"),
    ],
)
def test_who_is_nobody_or_root_is_refused(text: str, why: str) -> None:
    with pytest.raises(pyzcrx.errors.BadArgument, match=why):
        User.parse(text)


def test_only_root_can_drop() -> None:
    code = """
import os
from pyzcrx.privilege import User, drop
import pyzcrx
if os.getuid() == 0:
    os.setresuid(65533, 65533, 65533)
try: drop(User(65534, 65534))
except pyzcrx.errors.NotPermitted as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "only root can become another user" in done.stdout, done.stderr


def test_with_threads_running_it_is_refused() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(pyzcrx.errors.UsageError, match="thread"):
            drop(User(65534, 65534))
    finally:
        done.set()
        thread.join()
