"""``python -m vm`` on a machine that lacks something: one line, whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vm import __main__ as program
from vm import host
from vm.errors import ModulesMissing

ROOT = Path(__file__).parents[3]


def test_without_click() -> None:
    """-S: without site-packages."""
    argv = [sys.executable, "-S", "-m", "vm", "demo"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("vm: error: Python modules are missing: click: ")
    assert line.endswith("apt-get install python3-click")


def test_every_module_that_the_commands_import_is_asked_for() -> None:
    """What is not Python's own, of all that ``vm.cli`` imports."""
    listing = "import sys; import vm.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    argv = [sys.executable, "-c", listing]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"vm", "__main__"}
    started = subprocess.run(
        [sys.executable, "-c", "import sys; print(*{n.partition('.')[0] for n in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported - set(started.stdout.split()) == set(program.MODULES)


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "OLDEST", (99, 0))
    with pytest.raises(SystemExit, match=r"^vm: error: Python 99\.0 or newer is needed, this is"):
        program.check()


def test_modules_that_a_tier_needs() -> None:
    host.need_modules("click", "pytest")
    with pytest.raises(ModulesMissing, match=r"missing: no_such_one, nor_this: .*--group dev"):
        host.need_modules("click", "no_such_one", "nor_this")


CLOSED = """
import os, sys
from vm import __main__ as program
program.open_standard_streams()
print("to nobody", flush=True)
print("to nobody", file=sys.stderr, flush=True)
with open(sys.argv[1], "w") as file:
    file.write(" ".join(map(str, os.pipe())))
"""


def test_closed_standard_streams_are_opened_first(tmp_path: Path) -> None:
    """Else a guest's channel would be descriptor 0, and its output go into it."""
    result = tmp_path / "result"
    argv = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", CLOSED, str(result)]
    assert subprocess.run(argv, cwd=ROOT, check=False).returncode == 0
    assert min(map(int, result.read_text().split())) > 2


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null"])
def test_a_cache_that_cannot_be_made(home: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vm", "build"],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 122
    (line,) = done.stderr.splitlines()
    assert line.startswith("vm: error: ")
    assert home in line
