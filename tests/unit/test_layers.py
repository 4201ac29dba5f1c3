"""Imports run downward, and only one module knows the compiled binding."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pyzcrx


def room(name: str, *layers: list[str]) -> list[list[str]]:
    """The layers of a package that no other module lies between."""
    return [[f"{name}.{module}" for module in layer] for layer in layers]


LAYERS = [
    ["cli.bench"],
    ["cli.serve_iperf3", "cli.relay", "cli.recv"],
    ["cli.echo", "cli.doctor", "cli.nic", "bench.iperf3_server"],
    ["cli.options", "cli.turns", "cli.exchange"],
    [
        "cli.server",
        "cli.user",
        "cli.placement",
        "cli.card",
        "cli.listener",
        "cli.stop",
        "cli.progress",
        "bench.table",
        "bench.plot",
        "bench.rounds",
        "bench.receive",
    ],
    ["bench.iperf3_sender"],
    ["bench.figures", "bench.card"],
    ["bench.plan"],
    ["bench.receivers.catalogue"],
    ["bench.receivers.short"],
    ["bench.receivers.aio", "bench.receivers.echo"],
    [
        "bench.receivers.zcrx",
        "bench.receivers.sockets",
        "bench.receivers.streams",
        "bench.receivers.mapped",
        "bench.receivers.example",
    ],
    ["bench.gate"],
    ["bench.meter", "bench.pinning", "bench.ports", "bench.send", "bench.iperf3"],
    ["bench.job", "bench.bandwidth", "bench.begin"],
    ["doctor.trial", "doctor.report", "doctor.shared"],
    [
        "doctor.explain",
        "doctor.steering",
        "doctor.queue",
        "doctor.card",
        "doctor.kernel",
        "doctor.privilege",
        "doctor.placement",
        "doctor.urgent",
        "doctor.bugs",
        "doctor.journal",
        "doctor.read",
        "doctor.fix",
    ],
    ["doctor.memory"],
    ["doctor.facts", "doctor.finding"],
    ["types"],
    ["record.session"],
    *room("forwarding", ["relay"], ["pair"], ["flow", "connect"], ["backlog", "outbox", "stats"]),
    ["cli.acceptor", "cli.idle"],
    ["cli.values"],
    ["cli.common", "testing.model", "placement"],
    ["testing.rings", "testing.sends"],
    ["testing.requests"],
    ["testing.completions", "testing.pool", "testing.sockets"],
    *room(
        "aio",
        ["loop", "connect"],
        ["transport", "selector", "sockets"],
        ["protocol", "connection"],
        ["reader", "writer"],
        ["outbox"],
        ["arrival", "clients", "attach", "stall"],
        ["option"],
    ),
    ["testing.stand_in", "probe", "nic.setup"],
    ["nic.restore", "nic.steering"],
    ["nic.journal", "nic.plan"],
    ["nic.steps", "nic.sockets", "nic.drivers"],
    ["nic.settings"],
    ["nic.read"],
    ["nic.ethtool", "nic.netdev", "nic.ntuple", "nic.link", "nic.irq"],
    ["nic.netlink", "nic.flow", "nic.state"],
    ["nic.tables"],
    ["record.recorder"],
    ["record.series"],
    ["record.file"],
    ["record.mark"],
    ["record.system"],
    ["record.plan", "record.pages", "record.stats"],
    ["nic.messages"],
    ["ring"],
    ["ifq", "supervisor"],
    ["stream"],
    *room("_ifq", ["registering"], ["core"]),
    *room("_pressure", ["relief", "rx_buf_len"], ["audit", "holders", "policy"], ["stats"]),
    *room(
        "_receive",
        ["delivery"],
        ["reading"],
        ["waiting", "batch", "inboxes"],
        ["events"],
        ["request"],
        ["protocol", "debug", "chunks"],
        ["chunk"],
        ["pieces"],
    ),
    *room(
        "_send",
        ["accept", "send"],
        ["attempt", "traffic"],
        ["policy"],
        ["pieces", "stats"],
    ),
    *room(
        "_queue",
        ["queue"],
        ["registration", "links", "notices"],
        ["buffer", "refill", "area", "bound"],
        ["claims"],
    ),
    *room(
        "_ring",
        ["core"],
        ["wakeup", "ending"],
        ["poll", "readiness", "columns", "napi", "roles", "rings", "tokens"],
        ["outcomes", "pace"],
    ),
    ["privilege", "urgent"],
    *room(
        "_kernel",
        ["memory", "query", "interface", "endpoint", "descriptor"],
        ["_ffi", "fork", "cpus"],
        ["meanings"],
        ["card_meanings"],
    ),
    ["_lease", "cli.streams"],
    *room("_common", ["caller", "checked", "leaving", "stalled"]),
    ["errors", "uapi", "_zcrx"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ROOT = Path(pyzcrx.__file__).parent
MODULES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py"
)


def imports(module: str) -> set[str]:
    """What *module* imports of pyzcrx, for type checkers too: a name is a dependency."""
    path = ROOT / module.replace(".", "/")
    stub = path.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else path.with_suffix(".py")).read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyzcrx"):
            package = (node.module or "")[len("pyzcrx.") :]
            if (ROOT / package.replace(".", "/")).is_dir():
                prefix = f"{package}." if package else ""
                found |= {prefix + alias.name for alias in node.names}
            else:
                found.add(package)
        elif isinstance(node, ast.Import):
            found |= {a.name[len("pyzcrx.") :] for a in node.names if a.name.startswith("pyzcrx.")}
    return found


def test_every_module_has_a_layer() -> None:
    assert set(MODULES) == set(RANK) - {"_lease", "_zcrx"}


@pytest.mark.parametrize("module", [*MODULES, "_lease", "_zcrx"])
def test_imports_run_downward(module: str) -> None:
    for imported in imports(module):
        assert RANK[imported] > RANK[module], f"{module} imports {imported}"


def test_only_ffi_imports_the_binding() -> None:
    assert [module for module in MODULES if "_zcrx" in imports(module)] == ["_kernel._ffi"]


MOST_LINES = 400


def test_no_file_is_long() -> None:
    """One that grows has usually become two things."""
    tree = Path(__file__).parents[2]
    found = {
        str(path.relative_to(tree)): lines
        for folder in ("pyzcrx", "csrc", "docs/_site", "vm")
        for path in (tree / folder).rglob("*")
        if path.suffix in (".py", ".pyi", ".c", ".h")
        and "zcrxsim" not in path.parts  # a driver, of the kernel's style
        and "plugin" not in path.parts  # and one of QEMU's
        and (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert found == {}


BESIDE = {"supervisor", "placement", "cpus", "probe", "types", "privilege", "endpoint", "_send"}
"""Modules and rooms that nobody needs to receive with."""


def lines_of_code(text: str) -> int:
    """Lines that are neither empty, nor a comment, nor of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        number not in documented and line.strip() != "" and not line.lstrip().startswith("#")
        for number, line in enumerate(text.splitlines(), 1)
    )


def test_the_core_stays_small() -> None:
    core = [
        path
        for path in ROOT.rglob("*.py")
        if not {path.stem, path.parent.name} & BESIDE
        and (path.parent == ROOT or path.parent.name.startswith("_"))
    ]
    assert 3000 < sum(lines_of_code(path.read_text()) for path in core) < 5000
