"""The language between host and agent: frames on a byte stream, both directions.

A frame is a 9-byte header (kind, job, length) and its payload: raw bytes for streams,
JSON for everything else. Job 0 is the guest itself, any other number one command.

Streams are flow-controlled one by one: a sender may have ``WINDOW`` bytes under way and
gets room back with an ACK once the other end has passed them on. So a command that does
not read its stdin, or a caller who does not read stdout, stops only that stream, and
heartbeats, signals and other commands get through.

This file also runs in the guest: standard library only, no imports of ours.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

HEADER = struct.Struct(">BII")
CHUNK = 32 << 10  # what the kernel's virtio console takes in one write
WINDOW = 512 << 10
LIMIT = 4 << 20  # a longer frame means that the two ends have lost step

PORT = "pyzcrx.agent"  # name of the virtio-serial port
GUEST = 0  # the job number of the guest itself


class Kind(enum.IntEnum):
    # guest to host
    HELLO = 1  # the agent is up: kernel release
    READY = 2  # answer to SETUP
    BEAT = 3
    OUTPUT = 4  # stdout of a job
    ERRORS = 5  # stderr of a job
    EXIT = 6  # the job is over, nothing more of it follows
    # host to guest
    SETUP = 16  # what to mount before the first job
    START = 17
    INPUT = 18  # stdin of a job; an empty one is its end
    SIGNAL = 19
    RESIZE = 20
    END = 21  # power off
    # both
    ACK = 32  # {"stream": kind, "bytes": n}: room in the window again


class Frame(NamedTuple):
    kind: Kind
    job: int
    payload: bytes

    def json(self) -> dict[str, Any]:
        value = json.loads(self.payload)
        if not isinstance(value, dict):
            raise ValueError(f"{self.kind.name} carries no JSON object")
        return value


class LostStep(ValueError):
    """The stream holds something that is no frame."""


def encode(kind: Kind, job: int = GUEST, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, job, len(payload)) + payload


def encode_json(kind: Kind, job: int = GUEST, **fields: Any) -> bytes:
    return encode(kind, job, json.dumps(fields).encode())


class Decoder:
    """Cuts a byte stream, fed in any pieces, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= HEADER.size:
                kind, job, length = HEADER.unpack_from(self._buffer, at)
                if kind not in Kind._value2member_map_ or length > LIMIT:
                    raise LostStep(f"no frame: kind {kind}, {length} bytes")
                end = at + HEADER.size + length
                if len(self._buffer) < end:
                    break
                payload = bytes(memoryview(self._buffer)[at + HEADER.size : end])
                at = end
                yield Frame(Kind(kind), job, payload)
        finally:
            del self._buffer[:at]
