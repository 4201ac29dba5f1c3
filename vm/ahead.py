"""What a guest needs, made beside each other: a fresh clone waits for the archive most."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from vm.errors import BuildFailed, VmError
from vm.lane import Lane

Failure = tuple[str, Sequence[str]]


@contextmanager
def begun(*makers: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Each of *makers* in a process of its own, from now on; what is given waits for all of them.

    They are to leave what they make in the cache. Raises BuildFailed, when waited for, for the
    first that failed. Those that nobody waited for are ended.
    """
    with ExitStack() as stack:
        lanes = [stack.enter_context(Lane(partial(_made, maker))) for maker in makers]

        def wait() -> None:
            for lane in lanes:
                if (failure := lane.result(sys.stderr)) is not None:
                    raise BuildFailed(*failure)

        yield wait


def _made(maker: Callable[[], object]) -> Failure | None:
    """Why it could not be; an exception's own arguments would not survive pickle."""
    try:
        maker()
    except VmError as error:
        return str(error), error.details
    return None
