"""Netlink: one request at a time, answered or refused with the kernel's own words.

The messages are pyroute2's; the socket is a plain one, since pyroute2's runs an event
loop of its own and so cannot be used from a thread that has one.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

from pyzcrx._common.leaving import Closing
from pyzcrx._kernel.meanings import kernel_error, typed
from pyzcrx.errors import KernelError
from pyzcrx.nic import tables

NETLINK_ROUTE = 0
NETLINK_GENERIC = 16

_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_EXT_ACK = 11
_GET_STRICT_CHK = 12

_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_CAPPED, _ACK_TLVS, _DUMP_INTERRUPTED = 0x100, 0x200, 0x10
_ERROR, _DONE = 2, 3
_ACK_TEXT = 1

_HEADER = struct.Struct("=IHHII")
_BUFFER_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_TRIES = 20
_CTRL_GETFAMILY = 3


def uint(data: bytes | None) -> int | None:
    """The number of an attribute that has 4 or 8 bytes, as it needs (NLA_UINT)."""
    return None if data is None else int.from_bytes(data, sys.byteorder)


def packed_uint(value: int) -> bytes:
    """A number as such an attribute."""
    return value.to_bytes(4 if value < 1 << 32 else 8, sys.byteorder)


def _align(n: int) -> int:
    return n + 3 & ~3


def extack(data: bytes, flags: int, *, done: bool) -> str:
    """The kernel's explanation in an error's (or an end of dump's) payload, or ""."""
    if not flags & _ACK_TLVS:
        return ""
    at = 4
    if not done:
        # The request comes back: its header, and unless capped all of it.
        at += _HEADER.size if flags & _CAPPED else _align(_HEADER.unpack_from(data, 4)[0])
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        if kind & 0x3FFF == _ACK_TEXT:
            return data[at + 4 : at + size].rstrip(b"\0").decode(errors="replace")
        at += _align(size)
    return ""


class Netlink(Closing):
    """A netlink socket of one protocol. Any thread, one at a time."""

    def __init__(self, protocol: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        except OSError as error:
            raise typed(error, "netlink") from None
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._port: int = self._socket.getsockname()[0]
        self._sequence = 0
        self._note_class: Any = None
        self.notes: list[Any] = []
        """Notifications that came in between, decoded."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def join(self, group: int, message: Any) -> None:
        """Receive a group's notifications from now on, decoded as *message*."""
        self._note_class = message
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def take_notes(self) -> list[Any]:
        """Notifications that have come, without waiting."""
        self._socket.setblocking(False)
        try:
            while True:
                self._receive(-1, None)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # Some were lost: the caller reads the state anew in any case.
        finally:
            self._socket.settimeout(_TIMEOUT_S)
        notes, self.notes = self.notes, []
        return notes

    def request(
        self, kind: int, message: Any, operation: str, subject: str, *, dump: bool = False
    ) -> list[Any]:
        """The answers. Raises the KernelError of the errno, with the kernel's text."""
        for _ in range(_TRIES):
            answers, interrupted = self._request(kind, message, operation, subject, dump)
            if not interrupted:
                break
        return answers

    def _request(
        self, kind: int, message: Any, operation: str, subject: str, dump: bool
    ) -> tuple[list[Any], bool]:
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = _REQUEST | (_DUMP if dump else _ACK)
        message["header"]["sequence_number"] = self._sequence
        message["header"]["pid"] = 0
        message.reset()
        message.encode()
        answers: list[Any] = []
        try:
            self._socket.send(message.data)
            end = False
            interrupted = False
            while not end:
                number, text, end, broken = self._receive(self._sequence, type(message), answers)
                interrupted |= broken
                if number:
                    raise kernel_error(number, operation, subject, extack=text)
        except TimeoutError:
            raise kernel_error(errno.ETIMEDOUT, operation, subject) from None
        except KernelError:
            raise
        except OSError as error:
            raise typed(error, operation, subject) from None
        return answers, interrupted

    def _receive(
        self, sequence: int, cls: Any, answers: list[Any] | None = None
    ) -> tuple[int, str, bool, bool]:
        """One datagram: errno, its text, whether it ends the answer, whether a dump broke."""
        data = self._socket.recv(_BUFFER_BYTES)
        number, text, end, interrupted = 0, "", False, False
        at = 0
        while at + _HEADER.size <= len(data):
            size, kind, flags, number_of, port = _HEADER.unpack_from(data, at)
            if size < _HEADER.size:
                break
            whole, payload = data[at : at + size], data[at + _HEADER.size : at + size]
            at += _align(size)
            if port != self._port:
                # A notification: those count their own sequence.
                if self._note_class is not None and kind >= tables.GENL_ID_CTRL:
                    self.notes.append(_decoded(self._note_class, whole))
                continue
            if number_of != sequence:
                continue  # the rest of an answer nobody waited for
            interrupted |= bool(flags & _DUMP_INTERRUPTED)
            if kind in (_ERROR, _DONE):
                code = struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
                number, end = -code, True
                if number:
                    text = extack(payload, flags, done=kind == _DONE)
            elif answers is not None:
                answers.append(_decoded(cls, whole))
        return number, text, end, interrupted


def _decoded(cls: Any, data: bytes) -> Any:
    message = cls(data)
    message.decode()
    return message


class Family(Netlink):
    """A generic netlink family by its name, such as "ethtool".

    Raises NotSupported (ENOENT) where the kernel has none of that name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(NETLINK_GENERIC)
        try:
            query = tables.ctrlmsg()
            query["cmd"], query["version"] = _CTRL_GETFAMILY, 1
            query["attrs"] = [("CTRL_ATTR_FAMILY_NAME", name)]
            (found,) = self.request(tables.GENL_ID_CTRL, query, "netlink family", name)
        except BaseException:
            self.close()
            raise
        self.id: int = found.get_attr("CTRL_ATTR_FAMILY_ID")
        self._version: int = found.get_attr("CTRL_ATTR_VERSION")
        self._groups = {
            group.get_attr("CTRL_ATTR_MCAST_GRP_NAME"): group.get_attr("CTRL_ATTR_MCAST_GRP_ID")
            for group in found.get_attr("CTRL_ATTR_MCAST_GROUPS") or ()
        }

    def call(
        self,
        command: int,
        table: Any,
        attributes: Sequence[tuple[str, Any]],
        operation: str,
        subject: str,
        *,
        dump: bool = False,
    ) -> list[Any]:
        """Send one command, a message of *table*; give its answers."""
        message = table()
        message["cmd"], message["version"] = int(command), self._version
        message["attrs"] = list(attributes)
        return self.request(self.id, message, operation, subject, dump=dump)

    def listen(self, group: str, table: Any) -> None:
        """Notifications of *group* from now on; see :meth:`take_notes`."""
        self.join(self._groups[group], table)
