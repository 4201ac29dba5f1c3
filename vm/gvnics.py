"""The model of two gVNICs (vm/gve) beside a guest: started with it, ended with it."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm import external, host
from vm.config import Share
from vm.errors import BuildFailed, InvalidRequest, LostGuest
from vm.process import Completed

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "gve"
GUEST_FOLDER = "/run/pyzcrx/gve"
PORT = "pyzcrx.gve"
FIRST = 10
"""The model's descriptors are numbered from here."""
SETUP_SECONDS = 120.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Gvnics:
    """A running model."""

    nics: tuple[Path, Path]
    """Where QEMU connects to each."""
    port: socket.socket
    """For QEMU to inherit: what the guest controls the model by."""
    control: socket.socket
    """The same for this machine."""

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request of control.py; its answer."""
        data = b""
        try:
            self.control.sendall(json.dumps(request).encode() + b"\n")
            while not data.endswith(b"\n"):
                part = self.control.recv(1 << 16)
                if not part:
                    raise BrokenPipeError
                data += part
        except OSError as error:
            raise LostGuest(f"the model of the NICs gives no answer: {error}") from None
        answer: dict[str, Any] = json.loads(data)
        return answer


@contextmanager
def started() -> Iterator[Gvnics]:
    """The model, for one QEMU; it ends with the context, however that ends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyzcrx-gve-")))
        nics = folder / "nic0", folder / "nic1"
        listeners = [stack.enter_context(_listening(path)) for path in nics]
        pairs = [socket.socketpair() for _ in range(2)]
        for each in (sock for pair in pairs for sock in pair):
            stack.enter_context(each)
        theirs = [*listeners, *(pair[1] for pair in pairs)]
        numbers = [FIRST + index for index in range(len(theirs))]
        stack.enter_context(
            external.started(
                [sys.executable, "-P", "-m", "vm.gve", *map(str, numbers)],
                places={n: sock.fileno() for n, sock in zip(numbers, theirs, strict=True)},
                env={"PYTHONPATH": str(ROOT)},
                cwd="/",
            )
        )
        for sock in theirs:
            sock.close()
        port, control = (pair[0] for pair in pairs)
        control.settimeout(ANSWER_SECONDS)
        yield Gvnics(nics, port, control)


def _listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise InvalidRequest(
            f"no socket can be made at {path} ({error}): set TMPDIR to a shorter folder"
        ) from None
    sock.listen(1)
    return sock


def share() -> Share:
    """What the guest needs of it: to set its interfaces up, and to control the model."""
    return Share(FOLDER, GUEST_FOLDER)


def set_up(run: Callable[..., Completed]) -> None:
    """The interfaces, in a guest."""
    done = run([f"{GUEST_FOLDER}/setup"], timeout=SETUP_SECONDS)
    if done.returncode:
        lines = host.last_lines(done.stderr.decode(errors="replace"))
        raise BuildFailed("the modelled gVNICs could not be set up in the guest", lines)
