#!/usr/bin/env python3
"""In a guest: one request to the model of its NICs, such as

    /run/pyzcrx/gve/ask.py '{"nic": 0, "faults": {"drop": 1000}}'

See control.py for what there is to ask. A program by itself: the guest has no ``vm``.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import Any

PORT = "pyzcrx.gve"
PORTS = Path("/sys/class/virtio-ports")
PATIENCE_S = 60.0


def ask(**request: Any) -> dict[str, Any]:
    """The answer. Raises RuntimeError where it is an error."""
    place = next(each.name for each in PORTS.iterdir() if (each / "name").read_text()[:-1] == PORT)
    fd = os.open(f"/dev/{place}", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(fd, json.dumps(request).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            if not select.select([fd], [], [], PATIENCE_S)[0]:
                raise RuntimeError("the model of the NICs gives no answer")
            data += os.read(fd, 1 << 16)
    finally:
        os.close(fd)
    answer: dict[str, Any] = json.loads(data)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


if __name__ == "__main__":
    print(json.dumps(ask(**json.loads(sys.argv[1])), indent=1))
