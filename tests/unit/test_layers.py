"""Imports run downward, and only one module knows the compiled binding."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pyzcrx

LAYERS = [
    ["cli.bench"],
    ["cli.serve_iperf3", "cli.per_buffer"],
    ["bench.callgrind"],
    ["bench.per_buffer"],
    ["cli.echo", "cli.doctor", "cli.nic", "bench.iperf3_server"],
    [
        "cli.server",
        "cli.user",
        "cli.placement",
        "cli.card",
        "cli.listener",
        "bench.table",
        "bench.plot",
        "bench.rounds",
        "bench.receive",
    ],
    ["bench.iperf3_sender"],
    ["bench.figures", "bench.card"],
    ["bench.plan"],
    ["bench.receivers.catalogue"],
    [
        "bench.receivers.zcrx",
        "bench.receivers.sockets",
        "bench.receivers.streams",
        "bench.receivers.mapped",
        "bench.receivers.example",
    ],
    ["bench.gate"],
    ["bench.meter", "bench.pinning", "bench.ports", "bench.send", "bench.iperf3"],
    ["bench.job", "bench.marks", "bench.bandwidth", "bench.begin"],
    ["doctor.trial", "doctor.report"],
    [
        "doctor.explain",
        "doctor.steering",
        "doctor.queue",
        "doctor.card",
        "doctor.kernel",
        "doctor.privilege",
        "doctor.placement",
        "doctor.urgent",
        "doctor.journal",
        "doctor.read",
        "doctor.fix",
    ],
    ["doctor.memory"],
    ["doctor.facts", "doctor.finding"],
    ["cli.acceptor", "cli.idle"],
    ["cli.values"],
    ["cli.common", "testing.model", "testing.replay", "placement"],
    ["testing.rings"],
    ["testing.requests"],
    ["testing.completions", "testing.pool", "testing.sockets"],
    ["testing.stand_in", "probe", "nic.setup"],
    ["nic.restore"],
    ["nic.journal", "nic.plan"],
    ["nic.steps", "nic.sockets", "nic.drivers"],
    ["nic.settings"],
    ["nic.read"],
    ["nic.ethtool", "nic.netdev", "nic.ntuple", "nic.link", "nic.irq"],
    ["nic.netlink", "nic.flow", "nic.state"],
    ["nic.tables"],
    ["loop"],
    ["record.file"],
    ["record.system"],
    ["record.plan"],
    ["ifq", "supervisor", "rx_buf_len", "links"],
    ["relief"],
    ["waiting"],
    ["audit", "holders", "pressure"],
    ["batch"],
    ["events"],
    ["receive", "operations", "registration", "debug", "notices"],
    ["buffer", "refill", "area", "ring"],
    ["claims"],
    [
        "protocol",
        "outcomes",
        "memory",
        "query",
        "napi",
        "columns",
        "pace",
        "urgent",
        "interface",
        "endpoint",
        "privilege",
        "poll",
        "readiness",
        "descriptor",
    ],
    ["bound", "cpus", "_ffi", "fork", "uapi", "stats", "caller", "checked", "leaving"],
    ["_lease", "cli.streams"],
    ["meanings"],
    ["card_meanings"],
    ["errors", "_zcrx"],
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
    assert [module for module in MODULES if "_zcrx" in imports(module)] == ["_ffi"]
