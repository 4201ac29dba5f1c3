"""The model's process: it serves, it is controlled, it ends with its context and with QEMU."""

from __future__ import annotations

import json
import os
import runpy
import select
import socket
import struct
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from vm import cli, gvnics
from vm.errors import InvalidRequest, LostGuest
from vm.gve.vfio_user import HEADER, Command


def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


def test_it_is_there_while_its_context_lasts() -> None:
    with gvnics.started() as model:
        assert model.ask(nic=0)["link"] is True
        assert "error" in model.ask(nic=5)
        model.port.sendall(b'{"nic": 1}\n')
        assert json.loads(model.port.recv(1 << 16))["books"] == {}
        folder = model.nics[0].parent
        assert folder.is_dir()
    assert not folder.exists()


def test_it_serves_both_nics_and_ends_with_qemu() -> None:
    with gvnics.started() as model:
        clients = [connect(path) for path in model.nics]
        for client in clients:
            body = struct.pack("<QII", 8, 7, 1)
            head = HEADER.pack(1, Command.REGION_READ, HEADER.size + len(body), 0, 0)
            client.sendall(head + body)
            assert client.recv(1 << 10)[-1:] == b"\x01"  # the revision
        clients[0].close()
        assert model.ask(nic=0)["link"] is True
        clients[1].close()
        model.port.settimeout(60)
        assert model.port.recv(1) == b""  # it has ended
        with pytest.raises(LostGuest):
            model.ask(nic=0)


def test_a_folder_whose_name_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(InvalidRequest, match="set TMPDIR to a shorter folder"), gvnics.started():
        pytest.fail("it was started")
    assert list(long.iterdir()) == []


def test_two_pairs_of_the_same_names_are_refused() -> None:
    done = CliRunner().invoke(cli.main, ["run", "--sim", "--gve", "--", "true"])
    assert done.exit_code == 2
    assert "both have zcrx0" in done.stderr


def test_ask_of_a_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program finds its port by name; here a terminal's end is in its place."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    port = tmp_path / "vport1p2"
    port.mkdir()
    (port / "name").write_text("pyzcrx.gve\n")
    program = runpy.run_path(str(gvnics.FOLDER / "ask.py"))
    ask = program["ask"]
    names = ask.__globals__
    monkeypatch.setitem(names, "PORTS", tmp_path)
    monkeypatch.setattr(os, "open", lambda *_: os.dup(theirs))
    for answer, error in ((b'{"link": true}\n', None), (b'{"error": "no"}\n', "no")):
        os.write(ours, answer)
        if error:
            with pytest.raises(RuntimeError, match=error):
                ask(nic=0)
        else:
            assert ask(nic=0) == {"link": True}
    assert select.select([ours], [], [], 0)[0]
    assert program["PORT"] == gvnics.PORT
    os.close(ours)
    os.close(theirs)
