"""The examples do what their first lines say."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading

import pytest

from tests.guest.card import CARD, connect
from tests.guest.echo import START_S, send_all

EXAMPLES = "/src/examples"


def run(name: str, data: bytes) -> str:
    """What the example prints when a client sends *data*."""
    with subprocess.Popen(
        ["python3", f"{EXAMPLES}/{name}", "0", *map(str, CARD.register.values())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listening on port" in line, line + process.stderr.read()
        with connect(int(line.split()[-1])) as client:
            send_all(client, data)
        output, errors = process.communicate(timeout=START_S)
    assert process.returncode == 0, errors
    return output


def test_receive() -> None:
    data = os.urandom(3 << 20)
    assert run("receive.py", data) == f"{hashlib.sha256(data).hexdigest()} {len(data)}\n"


def test_columns() -> None:
    words = run("columns.py", bytes(3 << 20)).split()
    assert words[0] == str(3 << 20)
    assert int(words[3]) >= (3 << 20) // 4096
    assert int(words[8]) <= 4096


def test_asyncio_server() -> None:
    data = os.urandom(3 << 20)
    assert run("asyncio_server.py", data) == f"{hashlib.sha256(data).hexdigest()}\n"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_anyio_server(backend: str) -> None:
    datas = [os.urandom(5 << 20), os.urandom(3 << 20)]
    argv = ["python3", f"{EXAMPLES}/anyio_server.py", "0", backend]
    with subprocess.Popen(
        [*argv, *map(str, CARD.register.values())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listening on port" in line, line + process.stderr.read()
        port = int(line.split()[-1])
        with connect(port) as one, connect(port) as two:
            sending = threading.Thread(target=send_all, args=(one, datas[0]))
            sending.start()
            send_all(two, datas[1])
            sending.join()
            said = {process.stdout.readline().strip() for _ in datas}
        process.terminate()
        process.communicate(timeout=START_S)
    assert said == {hashlib.sha256(data).hexdigest() for data in datas}
