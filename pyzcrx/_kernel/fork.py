"""What a forked child must do to the parent's objects before anything else.

A child inherits the ring's file and would keep the rx queue bound after the
parent closed everything; pages of an area it does not inherit at all
(MADV_DONTFORK: copying pinned memory makes fork take seconds), so that a stray
view would end it. Every such object registers here how it becomes dead and
harmless; the hook runs in the child, inside ``os.fork()``.

A process that ``exec``s needs none of this: every descriptor is close-on-exec.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from pyzcrx._lease import close_descriptors

T = TypeVar("T")

_guarded: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def guard(obj: T, in_child: Callable[[T], None]) -> None:
    """Have *in_child* called with *obj* in every child forked while *obj* lives."""
    _guarded[obj] = in_child


def _in_child() -> None:
    for obj, in_child in list(_guarded.items()):
        # One that fails must not keep the others from dying.
        with suppress(Exception):
            in_child(obj)
    _guarded.clear()
    close_descriptors()


os.register_at_fork(after_in_child=_in_child)
