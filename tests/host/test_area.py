"""Areas: sizes, huge pages with a fall-back said aloud, memory that outlives them."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

import pyzcrx
from pyzcrx import Area
from tests.leaks import nothing_leaks

PAGE = mmap.PAGESIZE
_F_SEAL_FUTURE_WRITE = 0x10


@pytest.mark.parametrize("size", [0, -PAGE, PAGE + 1, 1, 1 << 47, 1 << 70, True, 4096.0, "4096"])
def test_bad_sizes(size: object) -> None:
    with nothing_leaks():
        for make in (Area.anonymous, Area.memfd):
            with pytest.raises(pyzcrx.errors.BadArgument):
                make(size)  # type: ignore[arg-type]


def test_a_size_beyond_memory_is_no_memory() -> None:
    with nothing_leaks(), pytest.raises(pyzcrx.errors.NoMemory) as caught:
        Area.anonymous(1 << 46)
    assert caught.value.errno == errno.ENOMEM


def test_anonymous() -> None:
    with nothing_leaks():
        with Area.anonymous(4 * PAGE) as area:
            assert area.size_bytes == 4 * PAGE
            assert area.page_bytes == PAGE
            area.view[-1] = 5
            assert area.view[-1] == 5
        area.close()
        assert area.closed
        with pytest.raises(pyzcrx.ClosedError):
            area.view  # noqa: B018


def test_views_outlive_the_area() -> None:
    area = Area.anonymous(PAGE)
    area.view[0] = 9
    view = area.view[:10]
    area.close()
    assert view[0] == 9


def test_memfd_is_shared_and_closed_with_the_area() -> None:
    with nothing_leaks():
        with Area.memfd(2 * PAGE) as area:
            area.view[PAGE] = 42
            with mmap.mmap(area.fd, 2 * PAGE) as again:
                assert again[PAGE] == 42
            fd = area.fd
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_huge_sizes_are_checked() -> None:
    for make in (Area.anonymous, Area.memfd):
        with pytest.raises(pyzcrx.errors.BadArgument, match="multiple of 2097152"):
            make(PAGE, huge="2M")
        with pytest.raises(pyzcrx.errors.BadArgument, match="huge must be"):
            make(PAGE, huge="4M")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [Area.anonymous, Area.memfd])
def test_missing_huge_pages_fall_back_aloud(make: object) -> None:
    # One more than the pool has.
    pool = Path("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages")
    free = int(pool.read_text()) if pool.exists() else 0
    with nothing_leaks():
        with pytest.warns(pyzcrx.errors.FallbackWarning, match="huge pages of 1G"):
            area = make((free + 1) << 30, huge="1G")  # type: ignore[operator]
        assert area.page_bytes == PAGE
        area.view[0] = 1
        area.close()


def test_an_area_that_was_dropped_keeps_nothing() -> None:
    with nothing_leaks():
        assert Area.memfd(PAGE).fd >= 0


def test_transparent_huge_pages_are_aligned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyzcrx.errors.FallbackWarning)
        with nothing_leaks(), Area.anonymous(4 << 20, huge="thp") as area:
            assert area._address % (2 << 20) == 0
            area.view[(4 << 20) - 1] = 1


@pytest.mark.parametrize("huge", [None, "2M"])
def test_nobody_can_shrink_a_memfd(huge: Any) -> None:
    with nothing_leaks(), warnings.catch_warnings():
        warnings.simplefilter("ignore", pyzcrx.errors.FallbackWarning)  # no huge pages are free
        area = Area.memfd(2 << 20, huge=huge)
        assert fcntl.fcntl(area.fd, fcntl.F_GET_SEALS) == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        for size in (0, PAGE, 4 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(area.fd, size)
        with open(f"/proc/self/fd/{area.fd}", "r+b") as other, pytest.raises(PermissionError):
            other.truncate(0)
        area.view[-1] = 7
        assert area.view[-1] == 7
        area.close()


def test_others_can_be_left_a_memory_to_read_only() -> None:
    """What the docstring tells users to add."""
    with Area.memfd(PAGE) as area:
        fcntl.fcntl(area.fd, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)
        area.view[0] = 5
        with mmap.mmap(area.fd, PAGE, prot=mmap.PROT_READ) as again:
            assert again[0] == 5
        with pytest.raises(PermissionError):
            mmap.mmap(area.fd, PAGE)
        with pytest.raises(PermissionError):
            os.write(area.fd, b"x")


def test_a_memfd_that_cannot_be_sealed_is_said_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "no seals here")

    monkeypatch.setattr("pyzcrx._queue.area.fcntl.fcntl", refuse)
    with pytest.warns(
        pyzcrx.errors.FallbackWarning, match=r"cannot be sealed \(errno 22\).*SIGBUS"
    ):
        area = Area.memfd(PAGE)
    with area:
        assert area.fd >= 0


def test_what_is_done_to_the_shown_descriptor_reaches_nobody_else() -> None:
    area = Area.memfd(PAGE)
    shown = area.fd
    assert area.fd == shown
    os.close(shown)
    with open(os.devnull) as other:
        assert other.fileno() == shown  # the lowest that is free
        area.close()
        os.fstat(shown)  # not closed with the area
    assert area.fd == -1


def test_a_forked_child_may_map_a_memfd_area() -> None:
    with Area.memfd(PAGE) as area:
        area.view[:3] = b"abc"
        fd = area.fd
        child = os.fork()
        if not child:
            with mmap.mmap(fd, PAGE) as again:
                os._exit(again[:3] != b"abc")
        assert os.waitpid(child, 0)[1] == 0
