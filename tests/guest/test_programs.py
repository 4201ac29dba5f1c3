"""Programs of others on our event loop, unmodified: HTTP servers and clients, with stock peers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.guest.card import CARD, Sim
from tests.guest.test_examples import EXAMPLES
from tests.long import rounds
from tests.patience import START_S

MIB = 1 << 20
SIZE = rounds(64, 1024) * MIB
SLACK = SIZE // 50
"""HTTP's own bytes, what else arrives on the queue, and what the kernel copies while it is busy."""
PLACE = [str(value) for value in CARD.register.values()]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("programs") / "data"
    with path.open("wb") as out:
        for at in range(0, SIZE, MIB):  # sparse: a gibibyte would not fit the guest's memory
            out.seek(at)
            out.write(os.urandom(1 << 16))
        out.truncate(SIZE)
    yield path
    path.unlink()


def digest_of(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def books() -> dict[str, int]:
    """Bytes of payload that came to our queue, by where the NIC put them."""
    if not isinstance(CARD, Sim):
        return {}
    return {kind: CARD.counter(f"rx{CARD.queue}_{kind}_bytes") for kind in ("zc", "page", "linear")}


@contextmanager
def zero_copied(nbytes: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what checks a program's figures; the NIC's own books are checked at the end."""
    before = books()

    def check(stats: dict[str, Any]) -> None:
        assert nbytes <= stats["bytes"] <= nbytes + SLACK
        assert CARD.copied(stats), stats
        if CARD.zero_copy:
            assert stats["bytes_copied"] <= SLACK

    yield check
    if before:
        grown = {kind: value - before[kind] for kind, value in books().items()}
        assert grown["zc"] >= nbytes, grown
        assert grown["page"] + grown["linear"] <= SLACK, grown


@contextmanager
def program(argv: list[str], says: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs, and the line of its stderr that has *says*; killed if it is left so."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    with closing(process.stdout), closing(process.stderr):
        try:
            line = process.stderr.readline()
            assert says in line, line + process.stderr.read()
            yield process, line
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(START_S)


# -- servers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aiohttp_server.py", "uvicorn_server.py"])
def test_a_server_and_curl(name: str, file: Path) -> None:
    argv = ["python3", f"{EXAMPLES}/{name}", "0", *PLACE]
    with zero_copied(SIZE) as check:
        with program(argv, "listening on port") as (server, line):
            url = f"http://{CARD.server}:{line.split()[-1]}/data"
            curl = [*CARD.client_prefix, "curl", "-sS", "--fail", "-T", str(file), url]
            done = subprocess.run(curl, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout == digest_of(file)
            server.send_signal(signal.SIGINT)
            output, errors = server.communicate(timeout=START_S)
            assert server.returncode == 0, errors
        assert errors == ""
        check(json.loads(output))
    CARD.queue_free()


def test_streams_of_asyncio_and_socat(file: Path) -> None:
    argv = ["python3", f"{EXAMPLES}/asyncio_server.py", "0", *PLACE]
    with zero_copied(SIZE):
        with program(argv, "listening on port") as (server, line):
            to = f"TCP:{CARD.server}:{line.split()[-1]}"
            socat = [*CARD.client_prefix, "socat", "-u", f"FILE:{file}", to]
            done = subprocess.run(socat, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            output, errors = server.communicate(timeout=START_S)
            assert server.returncode == 0, errors
        assert output.strip() == digest_of(file)
    CARD.queue_free()


# -- clients ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aiohttp_client.py", "httpx_client.py"])
def test_a_client_downloads(name: str, file: Path) -> None:
    serve = ["python3", "-u", "-m", "http.server", "--bind", CARD.peer_address, "0"]
    argv = [*CARD.client_prefix, "sh", "-c", f"cd {file.parent} && exec {' '.join(serve)} >&2"]
    with zero_copied(SIZE) as check:
        with program(argv, "Serving HTTP on") as (_, line):
            port = line.split(" port ")[1].split()[0]
            url = f"http://{CARD.peer_address}:{port}/data"
            done = subprocess.run(
                ["python3", f"{EXAMPLES}/{name}", url, *PLACE], capture_output=True, text=True
            )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{digest_of(file)} {SIZE}\n"
        check(json.loads(done.stderr))
    CARD.queue_free()
