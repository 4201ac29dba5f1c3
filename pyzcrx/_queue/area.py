"""Areas: the memory that the NIC (or, without one, the kernel) puts payload into.

An area is cut into buffers (*niovs*) of ``rx_buf_len`` bytes each, a page unless
asked otherwise. A completion names a place in it by ``off``: the area's token in
the top 16 bits, the byte offset below.

Kernel: ``io_uring/zcrx.c:io_import_umem()`` pins the pages and charges them to
RLIMIT_MEMLOCK unless the ring was made with CAP_IPC_LOCK.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import warnings
from contextlib import AbstractContextManager, suppress
from typing import Literal

from pyzcrx._common.checked import MOST_FD, integer
from pyzcrx._common.leaving import Closing
from pyzcrx._kernel._ffi import check, lib
from pyzcrx._kernel.meanings import typed
from pyzcrx._kernel.memory import PAGE, Extent, Mapping
from pyzcrx._lease import Descriptor, Span
from pyzcrx._queue.claims import Claim, Closable, claimed
from pyzcrx.errors import (
    BadArgument,
    ClosedError,
    FallbackWarning,
    KernelError,
    UnreadableMemory,
)

HugePages = Literal["2M", "1G", "thp", "none"]

_HUGE_SHIFT = {"2M": 21, "1G": 30}
HUGE_PAGE = 2 << 20
"""Bytes of a transparent one, or of the smallest of the pool's."""
_UDMABUF_CREATE = 0x40187542
_UDMABUF_FLAGS_CLOEXEC = 1
_DMA_BUF_IOCTL_SYNC = 0x40086200

# User addresses end here on x86-64 and arm64; beyond it a size is a mistake.
_LIMIT = 1 << 47


def _checked(size_bytes: int, unit: int) -> int:
    size_bytes = integer("area size", size_bytes, 1, _LIMIT - 1)
    if size_bytes % unit:
        raise BadArgument(f"area size {size_bytes} is not a positive multiple of {unit} bytes")
    return size_bytes


def _huge_shift(huge: str) -> int:
    if not isinstance(huge, str) or huge not in _HUGE_SHIFT:
        raise BadArgument(f"huge must be '2M', '1G', 'thp' or 'none', not {huge!r}")
    return _HUGE_SHIFT[huge]


def _announce(size_bytes: int, huge: str, error: KernelError) -> None:
    pages = size_bytes >> _HUGE_SHIFT[huge]
    warnings.warn(
        f"no {pages} huge pages of {huge} are free (errno {error.errno}): the area has smaller "
        "ones; set vm.nr_hugepages to fix it",
        FallbackWarning,
        stacklevel=3,
    )


def _udmabuf(memfd: int, size_bytes: int) -> int:
    # struct udmabuf_create: memfd, flags, offset, size; _IOW('u', 0x42, ...)
    # In a bytearray, or ioctl() gives the bytes back instead of the new descriptor.
    create = bytearray(struct.pack("=IIQQ", memfd, _UDMABUF_FLAGS_CLOEXEC, 0, size_bytes))
    device = os.open("/dev/udmabuf", os.O_RDWR | os.O_CLOEXEC)
    try:
        return int(fcntl.ioctl(device, _UDMABUF_CREATE, create))
    finally:
        os.close(device)


def _duplicate(fd: int) -> Descriptor:
    try:
        return Descriptor(fd)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise BadArgument(f"descriptor {fd} is not open; pass one of a dmabuf") from None
        raise typed(error, "create area") from None


def _dmabuf_bytes(number: int, shown: int) -> int:
    """Of the dmabuf *number*, which the user knows as *shown*."""
    try:
        # No flag at all: a dmabuf refuses that (EINVAL), what is none does not know the request.
        fcntl.ioctl(number, _DMA_BUF_IOCTL_SYNC, bytes(8))
    except OSError as error:
        if error.errno == errno.EINVAL:
            with suppress(OSError):
                return os.lseek(number, 0, os.SEEK_END)
    raise BadArgument(f"descriptor {shown} is no dmabuf; export one of the device's memory")


def _seal(memfd: int) -> None:
    """Fix its size: shrunk by whoever has the descriptor, it would be SIGBUS to read it here."""
    try:
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError as error:
        warnings.warn(
            f"the memfd cannot be sealed (errno {error.errno}): what has its descriptor can shrink "
            "it, which ends this process by SIGBUS; give the descriptor to nobody",
            FallbackWarning,
            stacklevel=4,
        )


def check_readable(memory: Span, what: str) -> None:
    """Raise UnreadableMemory where *what* cannot be done with an area's memory."""
    if memory._unreadable:
        raise UnreadableMemory(
            f"{what} needs memory that the CPU can read, not another device's "
            "(Area.from_dmabuf()): use an area of your own memory"
        )


class Area(Closing):
    """Memory for received payload; owns it and outlives every view of it.

    Sizes are in bytes, multiples of the page (of the huge page, with *huge*).
    An area serves one ifq at a time, and no second one while Buffers or views of what the
    first received are out (:class:`~pyzcrx.errors.AreaInUse`). Safe to read from any thread.
    A forked child sees zeroes.
    """

    def __init__(
        self, mapping: Mapping, *, page_bytes: int = PAGE, fd: int = -1, dmabuf: bool = False
    ) -> None:
        """Use :meth:`anonymous`, :meth:`memfd`, :meth:`udmabuf` or :meth:`from_dmabuf`."""
        if not isinstance(mapping, Mapping):
            raise BadArgument(f"mapping must be a Mapping, not {type(mapping).__name__}")
        fd = integer("descriptor", fd, -1, MOST_FD)
        self._mapping: Mapping | None = mapping
        self.size_bytes = mapping.size_bytes
        """Its size, as asked for."""
        self.page_bytes = integer("page_bytes", page_bytes, 1, _LIMIT)
        """Size of the pages it really has; what was asked for may not be there."""
        self._file = Descriptor(fd, adopt=True) if fd >= 0 else None
        self._shown: Descriptor | None = None
        self.dmabuf = dmabuf
        """Whether it is a dmabuf: only a NIC can write it, the kernel cannot copy into it."""
        self.token: int | None = None
        """What the kernel puts into the top bits of ``off`` while registered."""

    @classmethod
    def anonymous(cls, size_bytes: int, *, huge: HugePages | None = None) -> Area:
        """Private memory of *size_bytes*.

        huge: None takes transparent huge pages where the kernel has them and the area
        is as large as one: all of it will be pinned anyway, and a NIC needs fewer
        mappings. ``"thp"`` warns where there are none, ``"2M"`` and ``"1G"`` take pages
        from the system's pool and fall back on transparent ones where that has too few,
        each with a :class:`FallbackWarning`; ``"none"`` asks for nothing.

        Raises BadArgument (size), NoMemory (ENOMEM).
        """
        if huge in (None, "thp", "none"):
            size_bytes = _checked(size_bytes, PAGE)
            if huge == "none" or (huge is None and size_bytes < HUGE_PAGE):
                return cls(Mapping.anonymous(size_bytes, forked=False))
            return cls._transparent(size_bytes, aloud=huge is not None)
        shift = _huge_shift(huge)
        size_bytes = _checked(size_bytes, 1 << shift)
        try:
            mapping = Mapping.anonymous(size_bytes, huge_shift=shift, forked=False)
        except KernelError as error:
            _announce(size_bytes, huge, error)
            return cls._transparent(size_bytes)
        return cls(mapping, page_bytes=1 << shift)

    @classmethod
    def memfd(cls, size_bytes: int, *, huge: Literal["2M", "1G"] | None = None) -> Area:
        """*size_bytes* of memory with a descriptor, ``fd``, that other processes can map too.

        Its size is sealed (F_SEAL_SHRINK, F_SEAL_GROW), with huge pages too. What has the
        descriptor can still write; fcntl.F_SEAL_FUTURE_WRITE, added once the area is made,
        leaves others a memory to read only.

        Raises BadArgument (size), NoMemory (ENOMEM).
        """
        if huge is None:
            return cls._of_memfd(_checked(size_bytes, PAGE), 0)
        shift = _huge_shift(huge)
        size_bytes = _checked(size_bytes, 1 << shift)
        try:
            return cls._of_memfd(size_bytes, shift)
        except KernelError as error:
            _announce(size_bytes, huge, error)
            return cls._of_memfd(size_bytes, 0)

    @classmethod
    def udmabuf(cls, size_bytes: int) -> Area:
        """A dmabuf of *size_bytes* over a memfd, by /dev/udmabuf: device memory's stand-in.

        Raises BadArgument (size), NotPermitted (EACCES), NotSupported (ENOENT: no
        CONFIG_UDMABUF), InvalidRequest (EINVAL: beyond udmabuf's size limit), NoMemory.
        Kernel: ``drivers/dma-buf/udmabuf.c:udmabuf_create()``.
        """
        memory = cls._of_memfd(_checked(size_bytes, PAGE), 0)
        try:
            dmabuf_fd = _udmabuf(memory._own_fd, size_bytes)
        except OSError as error:
            memory.close()
            raise typed(error, "create udmabuf") from None
        memory._file = Descriptor(dmabuf_fd, adopt=True)
        memory.dmabuf = True
        return memory

    @classmethod
    def from_dmabuf(cls, fd: int, size_bytes: int | None = None) -> Area:
        """The memory of another device, a GPU for instance, by the descriptor of its dmabuf.

        The NIC writes there; the CPU reads nothing of it, and whatever needs a view raises
        UnreadableMemory: :attr:`view`, ``memoryview``, ``bytes`` and numpy arrays of Buffers,
        :meth:`pyzcrx.Batch.view`, streams, :meth:`pyzcrx.Ifq.receive_into`, recording,
        :meth:`pyzcrx.Ring.send`, :func:`pyzcrx.relay`, the pressure policies "copy" and
        "grow". A Buffer tells where its bytes lie: ``buf.off & pyzcrx.uapi.OFFSET_MASK`` bytes
        behind the dmabuf's begin, ``len(buf)`` of them.

        fd: stays yours, the area has a duplicate. size_bytes: what the dmabuf must have, all of
        which is the area; None: whatever it has.

        Raises BadArgument (no dmabuf, another size), NoMemory. Only a NIC
        that can write there takes it: :meth:`pyzcrx.Ring.register_ifq` raises InvalidRequest
        (EINVAL) or NotSupported where it cannot.
        Kernel: ``io_uring/zcrx.c:io_import_dmabuf()`` (6.16).
        """
        fd = integer("descriptor", fd, 0, MOST_FD)
        if size_bytes is not None:
            size_bytes = _checked(size_bytes, PAGE)
        held = _duplicate(fd)
        try:
            found = _dmabuf_bytes(held.number, fd)
            if size_bytes not in (None, found):
                raise BadArgument(f"the dmabuf {fd} has {found} bytes, not {size_bytes}")
            area = cls(Mapping.unreadable(_checked(found, PAGE)), dmabuf=True)
        except BaseException:
            held.close()
            raise
        area._file = held
        return area

    @classmethod
    def _transparent(cls, size_bytes: int, *, aloud: bool = True) -> Area:
        # Only aligned stretches become huge.
        mapping = Mapping.aligned(size_bytes, HUGE_PAGE, forked=False)
        if lib.pz_want_huge(mapping.address, size_bytes) < 0 and aloud:
            warnings.warn(
                "this kernel has no transparent huge pages; the area has ordinary ones",
                FallbackWarning,
                stacklevel=3,
            )
        return cls(mapping)

    @classmethod
    def _of_memfd(cls, size_bytes: int, huge_shift: int) -> Area:
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        if huge_shift:
            flags |= os.MFD_HUGETLB | huge_shift << os.MFD_HUGE_SHIFT
        try:
            fd = os.memfd_create("pyzcrx", flags)
        except OSError as error:
            check(-(error.errno or 0), "create memfd")
            raise
        try:
            os.ftruncate(fd, size_bytes)
            _seal(fd)
            return cls(
                Mapping.of_file(fd, 0, size_bytes),
                fd=fd,
                page_bytes=1 << huge_shift if huge_shift else PAGE,
            )
        except KernelError:
            os.close(fd)
            raise
        except OSError as error:
            os.close(fd)
            check(-(error.errno or 0), "size memfd")
            raise

    def _open(self) -> Mapping:
        if self._mapping is None:
            raise ClosedError("the area was closed")
        return self._mapping

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._mapping is None

    @property
    def fd(self) -> int:
        """A descriptor of the memfd or dmabuf behind it, or -1; closed with the area.

        A duplicate: what you do to its number does not reach the area's own. A forked child
        inherits it.
        """
        if self._file is None or self._file.number < 0:
            return -1
        if self._shown is None:
            self._shown = Descriptor(os.dup(self._file.number), adopt=True, inherit=True)
        return self._shown.number

    @property
    def _own_fd(self) -> int:
        """The area's own descriptor of the memfd or dmabuf, or -1."""
        return -1 if self._file is None else self._file.number

    @property
    def _span(self) -> Span:
        return self._open().span

    @property
    def _address(self) -> int:
        return self._open().address

    @property
    def view(self) -> memoryview:
        """All of the area, writable; what the kernel may still fill is in it too.

        Nothing guards it: it changes with what arrives, and what you write is seen in Buffers.
        Raises ClosedError, and UnreadableMemory (:meth:`from_dmabuf`).
        """
        return self._open().view

    @property
    def readable(self) -> bool:
        """Whether the CPU can read it: not what :meth:`from_dmabuf` made."""
        return not self._open().span._unreadable

    def _claimed(self, ring: Closable) -> AbstractContextManager[Claim]:
        """Its memory, for a registration with *ring* within the block. Raises AreaInUse."""
        mapping = self._open()
        extents = list(mapping.extents)
        if self.dmabuf:
            extents.append(Extent.of_file(self._own_fd, 0, self.size_bytes))
        return claimed(ring, mapping.span, extents)

    def close(self) -> None:
        """Give the memory back, or leave that to its ifq and the last view. Idempotent."""
        if self._mapping is None:
            return
        self._mapping.close()
        self._mapping = None
        for descriptor in (self._file, self._shown):
            if descriptor is not None:
                descriptor.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.size_bytes} bytes"
        return f"<Area {state}>"
