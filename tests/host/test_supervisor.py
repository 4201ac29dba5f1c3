"""The supervisor: signals pass, ends are alike, what is to be put back is put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

import pyzcrx
from pyzcrx.privilege import User
from pyzcrx.supervisor import become_worker

PATIENCE_S = 60
WORKER = """
import os, signal, sys, time
from pyzcrx.privilege import User
from pyzcrx.supervisor import become_worker

def put_back(pid):
    print("put back", pid, flush=True)

worker = become_worker(User(65534, 65534), put_back)
print("worker", os.getpid(), flush=True)
"""


@contextmanager
def supervised(work: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A supervisor and the number of its worker, which does *work*."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER + work], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        word, pid = process.stdout.readline().split()
        assert word == "worker"
        yield process, int(pid)
        process.kill()


def put_back(process: subprocess.Popen[str], pid: int) -> bool:
    assert process.stdout is not None
    return f"put back {pid}\n" in process.stdout.read()


@pytest.mark.parametrize("status", [0, 1, 2, 77])
def test_it_exits_as_the_worker_does(status: int) -> None:
    with supervised(f"sys.exit({status})") as (process, pid):
        assert put_back(process, pid)
        assert process.wait(PATIENCE_S) == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_it_ends_by_the_signal_that_ended_the_worker(number: signal.Signals) -> None:
    with supervised("time.sleep(1000)") as (process, pid):
        os.kill(pid, number)
        assert put_back(process, pid)
        assert process.wait(PATIENCE_S) == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    work = f"""
signal.signal({int(number)}, lambda *_: sys.exit(5))
print("ready", flush=True)
while True: time.sleep(1000)
"""
    with supervised(work) as (process, pid):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert put_back(process, pid)
        assert process.wait(PATIENCE_S) == 5


def test_a_worker_that_ignores_a_signal_is_still_supervised() -> None:
    work = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(1000)"
    with supervised(work) as (process, pid):
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        os.kill(pid, signal.SIGKILL)
        assert put_back(process, pid)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL


def test_the_worker_ends_with_its_supervisor() -> None:
    with supervised("time.sleep(1000)") as (process, pid):
        worker = psutil.Process(pid)
        process.kill()
        process.wait(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the worker lives on"
            time.sleep(0.01)


def test_a_fork_with_threads_running_is_refused() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(pyzcrx.errors.UsageError, match="threads"):
            become_worker(User(65534, 65534), lambda _pid: None)
    finally:
        done.set()
        thread.join()
