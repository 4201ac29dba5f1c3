"""Every public attribute in every state of its object: a typed refusal or a value, never a crash.

Attributes are found by introspection. In a state in which an object is of no use each raises
that state's error, but for those that are named here with the reason.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

import pyzcrx
from pyzcrx import _lease, nic, testing, types
from pyzcrx._kernel.memory import PAGE, Mapping
from pyzcrx._queue.refill import RefillQueue
from pyzcrx._ring.readiness import Readiness
from pyzcrx.testing import ModelKernel

pytestmark = [
    pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SILLY: list[tuple[Any, ...]] = [
    *((), (0,), (-1,), (1 << 40,), (1 << 70,), (None,), ("x",), (b"x",), (0.5,), ([],)),
    *((0, 0), (1, -1), (None, None), ([], []), (0, 0, 0), (1 << 40, 1 << 40, 1, 1)),
]


class World(ExitStack):
    """One of everything, two buffers' data received and another on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = self.enter_context(ModelKernel())
        self.ring = pyzcrx.Ring(sq_entries=8, cq_entries=64)
        self.area = pyzcrx.Area.anonymous(16 * PAGE)
        self.ifq = self.ring.register_ifq(self.area, rq_entries=16)
        self.sock: Any = self.kernel.socket()
        self.listener: Any = self.kernel.listen()
        self.request = self.ifq.receive(self.sock.fileno())
        self.sock.send(b"x" * (3 * PAGE))
        self.iterator = self.ring.events(0)
        event = next(self.iterator)
        assert isinstance(event, pyzcrx.Data)
        self.event, self.buffer = event, event.buffer
        self.accept = self.ring.accept(self.listener.fileno())
        self.send = self.ring.send(self.kernel.socket().fileno(), [b"x"])

    def objects(self) -> dict[str, object]:
        return {
            name: found
            for name, found in vars(self).items()
            if type(found).__module__.startswith("pyzcrx") and name != "kernel"
        } | {
            "rq": self.ifq.rq,
            "columns": self.ring._core.columns,
            "account": self.ifq._core.account,
            "relief": self.ifq._core.relief,
            "mapping": self.area._mapping,
            "queue": self.ring._delivery._undelivered,
            "turn": self.ring._core.columns.turn,
            "refill_ring": self.ifq.rq._shared,
        }


def in_child(script: Callable[[], Any]) -> Any:
    """What *script* gives, in a process of its own; fails where that crashes."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(writer, pickle.dumps(script()))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as answer:
        found = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return pickle.loads(found)


def public(kind: type) -> Iterator[str]:
    return (name for name in dir(kind) if name[0] != "_")


def poke(found: Any) -> None:
    """Every attribute of it, every call, with nonsense."""
    for name in public(type(found)):
        for arguments in SILLY:
            with suppress(Exception):
                attribute = getattr(found, name)
                if callable(attribute):
                    attribute(*arguments)
            with suppress(Exception):
                setattr(found, name, *arguments[:1])
        with suppress(Exception):
            delattr(found, name)
    uses: tuple[Any, ...] = (repr, len, bytes, memoryview, list, hash, lambda o: o == o)
    for use in uses:
        if use is not list or not isinstance(found, pyzcrx.Ring):
            with suppress(Exception):
                use(found)


def opened(_world: World) -> None:
    pass


def closed(world: World) -> None:
    world.ring.close()


def area_closed(world: World) -> None:
    world.area.close()


def nic_gone(world: World) -> None:
    world.ifq._core.gone = pyzcrx.errors.InterfaceGone(19, "receive")


def forked(_world: World) -> None:
    if os.fork():
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]) % 256)


STATES = [opened, closed, area_closed, nic_gone, forked]
OBJECTS = [
    *("ring", "area", "ifq", "sock", "listener", "request", "iterator", "event", "buffer"),
    *("accept", "send", "rq", "columns", "account", "relief", "mapping", "queue", "turn"),
    "refill_ring",
]


def test_every_object_is_poked() -> None:
    with World() as world:
        assert set(world.objects()) == set(OBJECTS)
        world.ring.close()


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("state", STATES)
def test_no_attribute_crashes(state: Callable[[World], None], name: str) -> None:
    def script() -> bool:
        world = World()
        found = world.objects()[name]
        state(world)
        fds = os.dup(0)  # what silly numbers close is not ours
        thread = threading.Thread(target=poke, args=(found,))
        thread.start()
        thread.join()
        poke(found)
        with suppress(Exception):
            world.ring.wait(0)
        with suppress(Exception):
            world.ring.close()
        del found
        world.__dict__.clear()
        gc.collect()
        os.close(fds)
        return True

    assert in_child(script)


HELPERS = [getattr(types, name) for name in types.__all__]
FOUND = [
    kind
    for module in (pyzcrx, pyzcrx.errors, nic, testing, _lease)
    for name, kind in vars(module).items()
    if name[0] != "_" and isinstance(kind, type) and kind.__module__.startswith("pyzcrx")
]
KINDS = list(dict.fromkeys([*FOUND, *HELPERS, Mapping, Readiness]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_was_never_initialised_crashes_nothing(kind: Any) -> None:
    def script() -> bool:
        for arguments in SILLY:
            with suppress(Exception):
                poke(kind.__new__(kind, *arguments))
            with suppress(Exception):
                found = kind.__new__(kind)
                with suppress(Exception):
                    found.__init__(*arguments)
                poke(found)
            with suppress(Exception):
                poke(kind(*arguments))
        gc.collect()
        return True

    assert in_child(script)


# -- what a state refuses -----------------------------------------------------------

COUNTS = {
    *("closed", "debug", "ifqs", "in_flight", "armed", "operations", "operation", "parked"),
    "send_stats",
    *(
        "account",
        "accounts",
        "columns",
        "delivery",
        "lends",
        "pace",
        "receivers",
        "cq",
        "ending",
        "owned",
        "raw",
        "want_turn",  # its user may have been interrupted anywhere
        "watched",
    ),
    *("looked_at", "others_done", "posted", "quiet", "readers", "shared", "unrest"),
}


def outcome(use: Callable[[], object]) -> str:
    try:
        use()
    except Exception as error:
        return type(error).__name__
    return "allowed"


def ring_uses(world: World) -> dict[str, Callable[[], object]]:
    """Every property and every method of a ring that hands something out or changes it."""
    ring, area, sock = world.ring, world.area, world.sock
    arguments: dict[str, tuple[Any, ...]] = {
        "accept": (world.listener.fileno(),),
        "batches": (0,),
        "cancel": (world.request.token,),
        "events": (0,),
        "register_ifq": (area,),
        "register_napi": (5,),
        "send": (sock.fileno(), [b"x"]),
        "turn": (0,),
        "deliver": (0,),
        "wait": (0,),
    }

    def use(owner: object, name: str) -> Callable[[], object]:
        def call() -> object:
            found = getattr(owner, name)
            return found(*arguments.get(name, ())) if callable(found) else found

        return call

    return {
        prefix + name: use(owner, name)
        for prefix, owner in (("", ring), ("core.", ring._core))
        for name in public(type(owner))
        if name not in COUNTS | NO_CHECK
    }


NO_CHECK = {
    *(
        "close",
        "close_elsewhere",
        "wake",
        "end_look",
        "check_open",
    ),  # idempotent, or for any thread
    *("add_child", "forget", "new_token", "post", "submit", "watch"),  # of the package
    *(
        "collect_quietly",
        "complete",
        "count",
        "arm",
        "enlist",
        "enlisted",
        "enlisted_on",
        "give_back",
        "lease_runs",
    ),
    *("set_armed", "turn_quietly", "use"),
}


@pytest.mark.parametrize(("state", "error"), [(closed, "ClosedError"), (forked, "ForkedChild")])
def test_a_ring_of_no_use_says_so(state: Callable[[World], None], error: str) -> None:
    def script() -> dict[str, str]:
        with World() as world:
            assert world.ring.wakeup_fd >= 0
            state(world)
            answers = {name: outcome(use) for name, use in ring_uses(world).items()}
            answers["iterator"] = outcome(lambda: next(world.iterator))
            return answers

    found = dict(script() if state is closed else in_child(script))
    assert len(found) > 15
    assert found == dict.fromkeys(found, error)


def in_thread(uses: dict[str, Callable[[], object]]) -> dict[str, str]:
    found: dict[str, str] = {}
    thread = threading.Thread(
        target=lambda: found.update({name: outcome(use) for name, use in uses.items()})
    )
    thread.start()
    thread.join()
    return found


def test_another_thread_gets_nothing() -> None:
    with World() as world:
        uses = ring_uses(world) | {"iterator": lambda: next(world.iterator)}
        for name in ("cq_head", "cq_tail", "cq_view", "ring_fd"):
            del uses[name]  # looked at from any thread
        del uses["core.ring_fd"]
        found = in_thread(uses | {"close": world.ring.close, "cancel": world.request.cancel})
        assert found == dict.fromkeys(found, "WrongThread")
        assert not world.request._stopping
        rest = [event for event in world.iterator if isinstance(event, pyzcrx.Data)]
        assert sum(len(event.buffer) for event in rest) == 2 * PAGE  # none was lost
        world.ring.close()


def batch_uses(world: World, batch: pyzcrx.Batch, runs: Any) -> dict[str, Callable[[], object]]:
    return {
        "buffer": lambda: batch.buffer(world.request, 0),
        "lengths": lambda: batch.lengths,
        "offs": lambda: batch.offs,
        "release": batch.release,
        "runs": batch.runs,
        "a run": lambda: next(runs),
        "view": lambda: batch.view(world.request, 0),
    }


@pytest.mark.parametrize(("state", "error"), [(closed, "ClosedError"), (forked, "ForkedChild")])
def test_a_batch_of_no_use_says_so(state: Callable[[World], None], error: str) -> None:
    def script() -> dict[str, str]:
        world = World()
        list(world.iterator)
        world.sock.send(b"y" * PAGE)
        batch = world.ring.wait(0)
        runs = batch.runs()
        batches = world.ring.batches(0)
        state(world)
        uses = batch_uses(world, batch, runs) | {"batches": lambda: next(batches)}
        return {name: outcome(use) for name, use in uses.items()}

    found = in_child(script)
    assert {"offs", "lengths", "runs", "view", "buffer", "release"} == {
        name for name in public(pyzcrx.Batch) if name not in ("events", "size_bytes")
    }
    assert found == dict.fromkeys(found, error)


def test_a_batch_after_the_next_turn() -> None:
    with World() as world:
        list(world.iterator)
        world.sock.send(b"y" * PAGE)
        batch = world.ring.wait(0)
        runs = batch.runs()
        world.ring.wait(0)
        uses = batch_uses(world, batch, runs)
        found = {name: outcome(use) for name, use in uses.items()}
        assert found == dict.fromkeys(found, "ClosedError")
        world.ring.close()


def test_a_buffer_in_a_forked_child() -> None:
    def script() -> dict[str, str]:
        world = World()
        forked(world)
        uses: dict[str, Callable[[], object]] = {
            "view": world.buffer.view,
            "memoryview": lambda: memoryview(world.buffer),
            "bytes": lambda: bytes(world.buffer),
            "look": lambda: world.ifq._core.queue.look(world.buffer.off, 1),
            "locate": lambda: world.ifq._core.queue.locate(world.buffer.off, 1),
        }
        return {name: outcome(use) for name, use in uses.items()}

    found = in_child(script)
    assert found == dict.fromkeys(found, "ForkedChild")


def test_a_closed_iterator_is_no_empty_one() -> None:
    with World() as world:
        world.ring.close()
        with pytest.raises(pyzcrx.ClosedError):
            list(world.ring.events(0))
        with pytest.raises(pyzcrx.ClosedError):
            list(world.ring.batches(0))


@pytest.mark.parametrize(
    "offsets", [(1 << 40, 4, 64), (0, 1 << 40, 64), (0, 4, 1 << 40), (1, 4, 64)]
)
def test_a_refill_queue_outside_its_memory(offsets: tuple[int, int, int]) -> None:
    head, tail, rqes = offsets
    with pytest.raises(pyzcrx.errors.BadArgument):
        RefillQueue(Mapping.anonymous(2 * PAGE), 8, head=head, tail=tail, rqes=rqes)
    with pytest.raises(pyzcrx.errors.BadArgument):
        RefillQueue(Mapping.anonymous(PAGE), 256, head=0, tail=4, rqes=64)
    with pytest.raises(TypeError):
        Mapping(4096, 4096)  # type: ignore[call-arg]


def test_runs_outside_the_columns() -> None:
    with World() as world:
        columns = world.ring._core.columns
        for start, runs in ((1 << 31, 1), (5, 1), (0, 1 << 40)):
            columns.run_starts[0], columns.counts[1], columns.counts[6] = start, runs, 1
            with pytest.raises(ValueError, match="outside"):
                world.ring._core.count()
            with pytest.raises(ValueError, match="outside"):
                world.ring._core.give_back()
        columns.counts[1] = columns.counts[6] = 0
        columns.raw.n_other = columns.capacity + 1
        with pytest.raises(ValueError, match="outside"):
            world.ring._core.complete()
        columns.raw.n_other = 0
        world.ring.close()
