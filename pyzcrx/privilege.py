"""Becoming an ordinary user, for good: nothing that the process ever runs gets root back.

Registration needs CAP_NET_ADMIN; receiving, giving back, FLUSH_RQ, ADD_AREA and closing do
not. So a receiver registers as root and then calls :func:`drop`; what needs privilege
later is for another process (:mod:`pyzcrx.supervisor`). Make the ring before: one that was
made with CAP_IPC_LOCK is not bound by RLIMIT_MEMLOCK later.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import threading
from contextlib import suppress
from dataclasses import dataclass

from pyzcrx._kernel._ffi import check, lib
from pyzcrx._kernel.meanings import typed
from pyzcrx.errors import BadArgument, KernelError, UsageError


@dataclass(frozen=True)
class User:
    """The user to become.

    uid, gid: the numbers of the user and of the group.
    """

    uid: int
    gid: int

    @classmethod
    def parse(cls, text: str) -> User:
        """The user of *text*, ``NAME[:GROUP]``: names or numbers; without GROUP, the user's own.

        Raises BadArgument: unknown, root, or a number without a group that has no account.
        """
        name, colon, group = text.partition(":")
        uid = gid = None
        try:
            number = _number(name)
            account = pwd.getpwnam(name) if number is None else pwd.getpwuid(number)
            uid, gid = account.pw_uid, account.pw_gid
        except KeyError:
            uid = number
        if uid is None:
            raise BadArgument(f"there is no user {name!r}; see getent passwd")
        if colon:
            with suppress(KeyError):
                number = _number(group)
                gid = grp.getgrnam(group).gr_gid if number is None else number
                return cls._not_root(uid, gid)
            raise BadArgument(f"there is no group {group!r}; see getent group")
        if gid is None:
            raise BadArgument(f"user {uid} has no account: give a group as well, {uid}:GROUP")
        return cls._not_root(uid, gid)

    @classmethod
    def _not_root(cls, uid: int, gid: int) -> User:
        if uid == 0 or gid == 0:
            raise BadArgument("user and group must not be root's: that drops nothing")
        if max(uid, gid) >= (1 << 32) - 1:
            raise BadArgument(f"user {uid} or group {gid} is out of range")
        return cls(uid, gid)


def _number(text: str) -> int | None:
    """A user's or group's, where *text* is one and no name."""
    return int(text) if re.fullmatch("[0-9]{1,10}", text) else None


def drop(user: User) -> None:
    """Become *user*, without other groups, capabilities or a way to get any; check that it took.

    The only thread must call it: capabilities are a thread's own. Needs root. The process can no
    longer be traced or dumped by other processes of the user. Threads that it starts later,
    and programs that it executes, have no more.

    Raises UsageError (other threads), NotPermitted (EPERM), KernelError. After an error end the
    process: part of it may be done.
    Kernel: ``kernel/sys.c:__sys_setresuid()``, ``security/commoncap.c`` (PR_CAPBSET_DROP 2.6.25,
    PR_SET_NO_NEW_PRIVS 3.5).
    """
    if threading.active_count() != 1:
        raise UsageError("privileges are a thread's own: drop them before others are started")
    name = "drop privileges"
    try:
        check(lib.pz_gain_no_privileges(), name)
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        check(lib.pz_drop_capabilities(), name)
    except OSError as error:
        raise typed(error, name, f"to user {user.uid}") from None
    with suppress(PermissionError):
        os.setresuid(-1, 0, -1)
        raise KernelError(errno.EPERM, name, "root can be had again", "end the process")
