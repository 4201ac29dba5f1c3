"""``python -m vm``: what it needs itself is asked for in one line, before anything else."""

import importlib.util
import os
import sys

OLDEST = (3, 11)
MODULES = {"click": "python3-click"}


def check() -> None:
    """Leave with one line where this Python cannot run us."""
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        sys.exit(f"vm: error: Python {wanted} or newer is needed, this is {sys.version.split()[0]}")
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(MODULES[name] for name in missing)
        sys.exit(
            f"vm: error: Python modules are missing: {', '.join(missing)}: scripts/test makes an"
            f" environment with them; or apt-get install {packages}"
        )


def open_standard_streams() -> None:
    """A caller may have closed some (``<&-``); nothing else is to get their numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end


if __name__ == "__main__":
    check()
    open_standard_streams()
    from vm.cli import main

    main()
