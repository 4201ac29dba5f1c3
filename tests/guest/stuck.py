"""What to know when a stream stands still or a queue does not come back."""

from __future__ import annotations

import subprocess
from pathlib import Path

TELLING = ("io_uring", "io_ring", "zcrx", "zs_", "napi_", "netdev_", "page_pool", "rtnl")
"""Of a kernel stack, whose owner is worth a look."""


def stuck(*netns: str) -> str:
    """The tasks that are in the kernel's part of our business, and every TCP socket."""
    parts = [*_stacks(), _said("ss", "-tinmo")]
    parts += [_said("ip", "netns", "exec", name, "ss", "-tinmo") for name in netns]
    return "\n".join(parts)


def _stacks() -> list[str]:
    shown = []
    for task in sorted(Path("/proc").glob("[0-9]*/task/[0-9]*")):
        try:
            stack = (task / "stack").read_text()
            state = (task / "stat").read_text().rpartition(") ")[2][0]
            name = (task / "comm").read_text().strip()
        except OSError:
            continue  # it has ended
        if any(word in stack for word in TELLING):
            shown.append(f"{name} {task.parent.parent.name}/{task.name}, state {state}:\n{stack}")
    return shown


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}"
