"""Everything that can go wrong with a guest, in one tree.

The message is one line with the cause and, where there is one, the fix. ``exit_code``
is what ``python -m vm`` ends with; CMD's own status is never an error.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_NOT_STARTED = 122
EXIT_SPLAT = 123
EXIT_TIMEOUT = 124
EXIT_LOST = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class VmError(Exception):
    """Root of the tree. ``details`` are lines of evidence to show under the message."""

    exit_code = EXIT_NOT_STARTED

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class ToolMissing(VmError):
    """Programs that the host must have are not there."""

    def __init__(self, tools: Sequence[str], packages: Sequence[str]) -> None:
        verb = "is" if len(tools) == 1 else "are"
        names = " ".join(packages)
        super().__init__(f"{', '.join(tools)} {verb} not installed: apt-get install {names}")
        self.tools = tuple(tools)
        self.packages = tuple(packages)


class ModulesMissing(VmError):
    """This Python lacks modules."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"Python modules are missing: {', '.join(names)}: scripts/test makes an environment"
            " with them, or: python -m pip install --group dev"
        )


class NoSpace(VmError):
    """A filesystem is, or would be, full."""


class InvalidRequest(VmError):
    """What was asked for cannot be: a share, a kernel, a PCI address..."""


class BuildFailed(VmError):
    """The image or the wheel could not be made; ``details`` end the build's log."""


class NotOffered(BuildFailed):
    """The distribution's archive has no such kernel, or no longer."""


class GuestEnded(VmError):
    """The guest is gone; a traceback shows the ``details`` too, for nobody can look any more."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message, details)
        self.add_note("\n".join(self.details))


class BootFailed(GuestEnded):
    """QEMU ran, but the agent never spoke; ``details`` end the console."""


class LostGuest(GuestEnded):
    """QEMU died or the kernel panicked under us; ``details`` end the console."""

    exit_code = EXIT_LOST


class HungGuest(LostGuest):
    """No sign of life from the agent for too long, though QEMU still runs."""


class KernelSplat(VmError):
    """The guest's kernel complained (WARN, BUG, Oops, lockdep...); ``details`` is the text."""

    exit_code = EXIT_SPLAT


class CommandTimeout(VmError):
    """The command did not end in time and was killed; its output so far is kept."""

    exit_code = EXIT_TIMEOUT

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class CannotExecute(VmError):
    """The guest has no such command, or it is not executable."""

    def __init__(self, message: str, *, found: bool) -> None:
        super().__init__(message)
        self.exit_code = EXIT_NOT_EXECUTABLE if found else EXIT_NOT_FOUND
