"""Who reads a Buffer: while a reader lives, its bytes do not change, however it took them."""

from __future__ import annotations

import array
import base64
import ctypes
import gc
import hashlib
import io
import itertools
import pickle
import socket
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from pyzcrx._kernel._ffi import ffi
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._lease import Account
from pyzcrx._queue.buffer import Buffer
from pyzcrx._receive.debug import POISON
from pyzcrx.errors import BufferInUse, DoubleRelease

LENGTH = 64
BYTES = bytes(range(LENGTH))


@pytest.fixture
def mapping() -> Iterator[Mapping]:
    mapping = Mapping.anonymous(PAGE)
    mapping.view[:LENGTH] = BYTES
    yield mapping
    mapping.close()


@pytest.fixture
def account() -> Account:
    account = Account()
    account.poison = True
    return account


def lease(mapping: Mapping, account: Account) -> Buffer:
    account.take(1)
    return Buffer(account, mapping.span, 0, LENGTH, 0)


@pytest.fixture
def buffer(mapping: Mapping, account: Account) -> Buffer:
    """One that pytest holds as well."""
    return lease(mapping, account)


# -- consumers that keep what they were given --------------------------------------


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("rest", ctypes.c_char * 256),
    )


class Keeper:
    """A C extension's worst manners: takes the address, ends its export, keeps an object."""

    def __init__(self, given: object, flags: int, *, keeps_exporter: bool) -> None:
        view = _PyBuffer()
        get = ctypes.pythonapi.PyObject_GetBuffer
        get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
        get(given, ctypes.addressof(view), flags)
        self.address, self.length = view.buf, view.len
        self.kept = view.obj if keeps_exporter else given
        release = ctypes.pythonapi.PyBuffer_Release
        release.argtypes, release.restype = [ctypes.c_void_p], None
        release(ctypes.addressof(view))

    def __bytes__(self) -> bytes:
        assert self.address is not None
        return ctypes.string_at(self.address, self.length)


SIMPLE, ND, STRIDES, FORMAT = 0, 0x08, 0x18, 0x04
C_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT, FULL_RO = 0x38, 0x98, 0x118, 0x11C
FLAGS = (SIMPLE, ND, STRIDES, ND | FORMAT, C_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT, FULL_RO)

# What the bytes are read from; whether it holds an export or an exporter, so that release waits.
Given = Any
SEEN, UNSEEN = True, False


class Consumer(NamedTuple):
    take: Callable[[Given], object]
    of_buffer: bool
    """Whether release is refused where the Buffer itself was given."""
    of_view: bool
    """Whether release is refused where buffer.view() was."""
    read: Callable[[Any], bytes] = bytes


class Holder:
    """An object with the buffer protocol's older sibling."""

    def __init__(self, given: Given) -> None:
        array_ = np.frombuffer(given, "u1")
        self.__array_interface__ = array_.__array_interface__
        self.base = array_


def chained(given: Given) -> np.ndarray[Any, Any]:
    return np.ndarray((LENGTH,), "u1", np.ndarray((LENGTH,), "u1", np.frombuffer(given, "u1")))


def received(given: Given) -> bytes:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(given)
        return theirs.recv(LENGTH)


def written(given: Given) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        return file.read()


def again(pickled: bytes, buffers: list[pickle.PickleBuffer]) -> Any:
    return pickle.loads(pickled, buffers=buffers)


def out_of_band(given: Given) -> Any:
    kept: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(np.frombuffer(given, "u1"), 5, buffer_callback=kept.append)
    return again(pickled, kept)


def of_array(found: np.ndarray[Any, Any]) -> bytes:
    return found.tobytes()


CONSUMERS: dict[str, Consumer] = {
    "memoryview": Consumer(memoryview, SEEN, SEEN),
    "memoryview slice": Consumer(lambda b: memoryview(b)[:], SEEN, SEEN),
    "memoryview cast": Consumer(lambda b: memoryview(b).cast("I"), SEEN, SEEN),
    "iterator": Consumer(lambda b: iter(memoryview(b)), SEEN, SEEN),
    "np.frombuffer": Consumer(lambda b: np.frombuffer(b, "u1"), SEEN, SEEN, of_array),
    "np.asarray": Consumer(np.asarray, SEEN, SEEN, of_array),
    "np.array, copied": Consumer(np.array, UNSEEN, UNSEEN, of_array),
    "np.ndarray": Consumer(lambda b: np.ndarray((LENGTH,), "u1", b), UNSEEN, SEEN, of_array),
    "np.ndarray of a slice": Consumer(
        lambda b: np.ndarray((LENGTH,), "u1", memoryview(b)[0:]), SEEN, SEEN, of_array
    ),
    "np.ndarray of a cast": Consumer(
        lambda b: np.ndarray((LENGTH // 4,), "u4", memoryview(b).cast("I")), SEEN, SEEN, of_array
    ),
    "np.ndarray of np.frombuffer": Consumer(
        lambda b: np.ndarray((LENGTH,), "u1", np.frombuffer(b, "u1")), SEEN, SEEN, of_array
    ),
    "np.ndarray of np.ndarray": Consumer(
        lambda b: np.ndarray((LENGTH,), "u1", np.ndarray((LENGTH,), "u1", b)),
        UNSEEN,
        SEEN,
        of_array,
    ),
    "np.ndarray, chained": Consumer(chained, SEEN, SEEN, of_array),
    "np.recarray": Consumer(
        lambda b: np.recarray((LENGTH // 4,), [("a", "<i4")], buf=b), UNSEEN, SEEN, of_array
    ),
    "np.char.chararray": Consumer(
        lambda b: np.char.chararray((1,), LENGTH, buffer=b), UNSEEN, SEEN, lambda a: a.tobytes()
    ),
    "np.ma": Consumer(lambda b: np.ma.masked_array(np.asarray(b)), SEEN, SEEN, of_array),
    "np.lib.stride_tricks": Consumer(
        lambda b: np.lib.stride_tricks.as_strided(np.frombuffer(b, "u1"), (LENGTH,), (1,)),
        SEEN,
        SEEN,
        of_array,
    ),
    "sliding window": Consumer(
        lambda b: np.lib.stride_tricks.sliding_window_view(np.asarray(b), LENGTH),
        SEEN,
        SEEN,
        of_array,
    ),
    "__array_interface__": Consumer(lambda b: np.asarray(Holder(b)), SEEN, SEEN, of_array),
    "np.from_dlpack": Consumer(
        lambda b: np.from_dlpack(np.frombuffer(b, "u1")), SEEN, SEEN, of_array
    ),
    "np.ndarray, transposed": Consumer(
        lambda b: np.ndarray((LENGTH,), "u1", b).reshape(8, 8).T,
        UNSEEN,
        SEEN,
        lambda a: a.T.tobytes(),
    ),
    "np.fromiter": Consumer(lambda b: np.fromiter(memoryview(b), "u1"), UNSEEN, UNSEEN, of_array),
    "cffi": Consumer(ffi.from_buffer, SEEN, SEEN, lambda c: bytes(ffi.buffer(c))),
    "PickleBuffer": Consumer(pickle.PickleBuffer, SEEN, SEEN, lambda p: bytes(memoryview(p))),
    "pickle, out of band": Consumer(out_of_band, SEEN, SEEN, of_array),
    "ctypes.from_buffer_copy": Consumer((ctypes.c_char * LENGTH).from_buffer_copy, UNSEEN, UNSEEN),
    "BytesIO": Consumer(lambda b: io.BytesIO(b).getvalue(), UNSEEN, UNSEEN),
    "struct": Consumer(lambda b: struct.pack("64B", *struct.unpack_from("64B", b)), UNSEEN, UNSEEN),
    "struct.iter_unpack": Consumer(
        lambda b: struct.iter_unpack("B", b),
        SEEN,
        SEEN,
        lambda found: bytes(x for (x,) in found),
    ),
    "array": Consumer(lambda b: array.array("B", memoryview(b)), UNSEEN, UNSEEN),
    "bytes": Consumer(bytes, UNSEEN, UNSEEN),
    "bytearray": Consumer(bytearray, UNSEEN, UNSEEN),
    "bytearray +=": Consumer(lambda b: bytearray().__iadd__(b), UNSEEN, UNSEEN),
    "join": Consumer(lambda b: b"".join([b]), UNSEEN, UNSEEN),
    "hashlib": Consumer(
        lambda b: hashlib.sha256(b).digest() == hashlib.sha256(BYTES).digest() and BYTES,
        UNSEEN,
        UNSEEN,
    ),
    "zlib": Consumer(lambda b: zlib.decompress(zlib.compress(b)), UNSEEN, UNSEEN),
    "base64": Consumer(lambda b: base64.b64decode(base64.b64encode(b)), UNSEEN, UNSEEN),
    "socket": Consumer(received, UNSEEN, UNSEEN),
    "file": Consumer(written, UNSEEN, UNSEEN),
    "int": Consumer(lambda b: int.from_bytes(b, "big").to_bytes(LENGTH, "big"), UNSEEN, UNSEEN),
} | {
    f"a C consumer, flags {flags:#x}, keeps {'Py_buffer.obj' if exporter else 'its argument'}": (
        Consumer(
            lambda b, flags=flags, exporter=exporter: Keeper(b, flags, keeps_exporter=exporter),  # type: ignore[misc]
            exporter,
            SEEN,
        )
    )
    for flags, exporter in itertools.product(FLAGS, (False, True))
    # It cannot be told from a memoryview, and none is known.
    if (flags, exporter) != (FULL_RO, False)
}


@pytest.mark.parametrize("given", ["buffer", "view"])
@pytest.mark.parametrize("name", CONSUMERS)
def test_bytes_do_not_change_under_a_consumer(
    name: str, given: str, buffer: Buffer, account: Account, mapping: Mapping
) -> None:
    consumer = CONSUMERS[name]
    found = consumer.take(buffer if given == "buffer" else buffer.view())
    gc.collect()
    seen = consumer.of_buffer if given == "buffer" else consumer.of_view
    if seen:
        with pytest.raises(BufferInUse):
            buffer.release()
        assert (account.leased, account.given) == (1, 0)
    else:
        buffer.release()
        assert bytes(mapping.view[:LENGTH]) == bytes([POISON]) * LENGTH
        assert (account.leased, account.given) == (0, 1)
    assert consumer.read(found) == BYTES
    del found
    gc.collect()
    if seen:
        assert buffer.exports == 0
        buffer.release()
    assert (account.leased, account.given, account.forgotten) == (0, 1, 0)
    with pytest.raises(DoubleRelease):
        buffer.release()


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_with_block_gives_back_when_the_last_reader_goes(
    name: str, buffer: Buffer, account: Account, mapping: Mapping
) -> None:
    consumer = CONSUMERS[name]
    with buffer:
        found = consumer.take(buffer)
    assert buffer.released
    assert account.given == (not consumer.of_buffer)
    assert consumer.read(found) == BYTES
    del found
    gc.collect()
    assert (account.leased, account.given, account.forgotten) == (0, 1, 0)
    assert bytes(mapping.view[:LENGTH]) == bytes([POISON]) * LENGTH


@pytest.mark.parametrize(
    "write",
    [
        lambda b: memoryview(b).__setitem__(0, 1),
        lambda b: (ctypes.c_char * LENGTH).from_buffer(b),
        lambda b: np.frombuffer(b, "u1").__setitem__(0, 1),
        lambda b: np.ndarray((LENGTH,), "u1", b).__setitem__(0, 1),
        lambda b: struct.pack_into("B", b, 0, 1),
        lambda b: io.BytesIO(BYTES).readinto(b),
        lambda b: ffi.from_buffer(b, require_writable=True),
    ],
)
def test_nothing_writes(write: Callable[[Given], object], buffer: Buffer) -> None:
    for given in (buffer, buffer.view()):
        with pytest.raises((TypeError, ValueError, BufferError)):
            write(given)
    del given
    assert bytes(buffer) == BYTES
    buffer.release()


def test_what_views_refer_to_is_one_object_and_keeps_the_bytes(
    mapping: Mapping, account: Account
) -> None:
    buffer = lease(mapping, account)
    views = [buffer.view(), memoryview(buffer), buffer.view()[5:]]
    pins = {id(view.obj) for view in views}
    assert len(pins) == 1
    assert buffer.exports == 3
    pin = views[0].obj
    views.clear()
    assert bytes(memoryview(pin)) == BYTES
    with pytest.raises(BufferInUse, match="1 views"):
        buffer.release()
    del buffer
    gc.collect()
    assert account.leased == 1
    del pin
    assert (account.leased, account.forgotten) == (0, 1)


def test_a_pin_cannot_be_made(buffer: Buffer) -> None:
    pin_type = type(buffer.view().obj)
    with pytest.raises(TypeError):
        pin_type()
    buffer.release()


def test_a_copy_shown_is_one_and_lives_as_long_as_the_buffer(
    mapping: Mapping, account: Account
) -> None:
    buffer: Any = lease(mapping, account)
    one, other = (np.ndarray((LENGTH,), "u1", buffer) for _ in range(2))
    assert np.shares_memory(one, other)
    assert not np.shares_memory(one, np.asarray(buffer))
    buffer.release()
    del buffer
    gc.collect()
    assert one.tobytes() == other.tobytes() == BYTES


# -- with ----------------------------------------------------------------------------


def test_with_keeps_the_error_in_flight(buffer: Buffer, account: Account) -> None:
    def parse() -> None:
        with buffer:
            view = buffer.view()
            raise ValueError(f"not {view[0]}")

    with pytest.raises(ValueError, match="not 0") as caught:
        parse()
    assert caught.value.__context__ is None
    assert (buffer.released, account.given) == (True, 0)  # the traceback's frame has the view
    del caught
    gc.collect()
    assert account.given == 1


def test_with_returns_what_needs_the_view_no_longer(buffer: Buffer, account: Account) -> None:
    def size() -> int:
        with buffer:
            view = buffer.view()
            return len(view)

    assert size() == LENGTH
    assert (account.leased, account.given) == (0, 1)


def test_after_with_nothing_new_is_handed_out(buffer: Buffer, account: Account) -> None:
    with buffer:
        view = buffer.view()
    for look in (buffer.view, lambda: memoryview(buffer), lambda: hashlib.sha256(buffer)):
        with pytest.raises(BufferError, match="released"):
            look()
    with pytest.raises(DoubleRelease):
        buffer.release()
    buffer._let_go()
    with buffer:
        pass
    more = view[10:]
    del view
    assert (account.given, more[0]) == (0, 10)
    del more
    assert account.given == 1


def test_the_last_view_may_go_after_the_buffer_and_on_any_thread(
    mapping: Mapping, account: Account
) -> None:
    buffer = lease(mapping, account)
    views = [buffer.view()]
    with buffer:
        pass
    del buffer
    assert (account.leased, bytes(views[0])) == (1, BYTES)
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert (account.leased, account.given, account.forgotten) == (0, 1, 0)
    assert mapping.span._leases == 0


def test_a_copied_buffer_waits_for_its_views_too(mapping: Mapping, account: Account) -> None:
    account.copy_above = 0
    account.take(1)
    copied = Buffer(account, mapping.span, 0, LENGTH, 0)
    assert (copied.copied, mapping.span._leases, account.copies) == (True, 0, 1)
    with copied:
        array_ = np.ndarray((LENGTH,), "u1", copied.view())
    assert array_.tobytes() == BYTES
    assert account.copies == 1
    del array_
    assert (account.copies, account.copies_bytes) == (0, 0)
