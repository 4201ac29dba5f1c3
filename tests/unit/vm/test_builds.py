"""A tree's build by a stand-in for mmdebstrap: what it gets, how it fails, how it is ended."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from vm import bootstrap, cache, host
from vm.bootstrap import Space
from vm.errors import BuildFailed, NoSpace

ROOT = Path(__file__).parents[3]
# As the real one: a tree in TMPDIR, the hook in dash, messages on stderr. The descriptor that
# its own hook writes to is the lowest that is free once it has opened seven.
STAND_IN = """\
#!/bin/sh
case $1 in --unshare-helper) shift; exec "$@" ;; esac
for each; do case $each in --customize-hook=*) hook=${each#*=} ;; esac; done
exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 || exit 25
[ -e /proc/self/fd/8 ] && { echo "E: descriptor 8 is taken" >&2; exit 25; }
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
PLACE
sh -c "$hook" exec "$tree" >&2 || { echo "E: mmdebstrap failed to run" >&2; exit 25; }
"""
HOOK = """
mkdir "$1/module"
tar -C "$1/module" -xf "/proc/self/fd/$PYZCRX_IN"
tar -C "$1/module" -cf - . >&"$PYZCRX_OUT"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins, first in the path; temporary files and cache are the test's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stand_in(folder)
    monkeypatch.setattr(host, "SEARCH_PATH", f"{folder}:{host.SEARCH_PATH}")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def stand_in(folder: Path, place: str = "") -> None:
    (folder / "mmdebstrap").write_text(STAND_IN.replace("PLACE", place))
    (folder / "mmdebstrap").chmod(0o755)


def make(folder: Path, hook: str = HOOK, data: bytes = b"", space: Space = bootstrap.SMALL) -> None:
    bootstrap.make(folder, [], hook, env={}, data=data, space=space)


def nothing_left(tmp_path: Path) -> bool:
    return not list((tmp_path / "tmp").iterdir())


def test_what_goes_in_comes_out(tools: Path, tmp_path: Path) -> None:
    assert tools
    (tmp_path / "file").write_text("content")
    target = tmp_path / "target"
    target.mkdir()
    make(target, data=bootstrap.tar([("file", tmp_path / "file")]))
    assert (target / "file").read_text() == "content"
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("name", sorted(path.name for path in bootstrap.RECIPE.iterdir()))
def test_recipes_take_their_descriptors_as_every_system_allows(name: str) -> None:
    """OUT, a pipe, is redirected to, by one digit; only IN, a file, is opened by its name."""
    text = bootstrap.recipe(name)
    assert "/proc/self/fd/$PYZCRX_OUT" not in text
    assert '<&"$PYZCRX_IN"' not in text
    if name != "sources.sh":  # a set-up hook
        assert '>&"$PYZCRX_OUT"' in text
    assert bootstrap.OUT < 10 <= bootstrap.IN
    done = subprocess.run(["dash", "-n"], input=text.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_hook_that_fails(tools: Path, tmp_path: Path) -> None:
    assert tools
    with pytest.raises(BuildFailed, match=r"^mmdebstrap failed \(exited with 25\)$") as caught:
        make(tmp_path, "echo the reason >&2; exit 1")
    assert caught.value.details == ("the reason", "E: mmdebstrap failed to run")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("hook", ["true", 'echo nonsense >&"$PYZCRX_OUT"'])
def test_a_result_that_cannot_be_unpacked_is_no_success(
    tools: Path, tmp_path: Path, hook: str
) -> None:
    """And the step that failed is named with its own status, not with the other's 0."""
    assert tools
    message = r"^unpacking what was built failed \(tar exited with 2\)$"
    with pytest.raises(BuildFailed, match=message) as caught:
        make(tmp_path, hook)
    assert any("tar archive" in line for line in caught.value.details)


def test_an_end_by_a_signal_is_told_by_its_name(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "trap - EXIT; kill -9 $$")
    with pytest.raises(BuildFailed, match=r"^mmdebstrap failed \(was ended by SIGKILL\)$"):
        make(tmp_path)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("words", host.FULL)
def test_no_space_left_is_said_in_one_line(tools: Path, tmp_path: Path, words: str) -> None:
    stand_in(tools, f"echo 'dpkg: error: cannot copy: {words}' >&2; exit 25")
    with pytest.raises(NoSpace, match=r"^building a Debian tree failed: no space left on device"):
        make(tmp_path)


def test_too_little_space_is_said_before_anything_is_built(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, f"touch {tmp_path}/begun")
    with pytest.raises(
        NoSpace, match=r"^building a Debian tree needs 1048576\.0 GiB in \S+, where"
    ):
        make(tmp_path, space=Space(1 << 50, 1))
    assert not (tmp_path / "begun").exists()


def test_what_is_needed_on_one_filesystem_is_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=3 << 30))
    host.need_space("it", {tmp_path / "one": 3 << 30})
    with pytest.raises(NoSpace, match=r"^it needs 4\.0 GiB in \S+, where 3\.0 GiB are free: "):
        host.need_space("it", {tmp_path / "one": 3 << 30, tmp_path / "two/deep": 1 << 30})


def test_a_killed_builds_tree_is_removed_by_the_next(tools: Path, tmp_path: Path) -> None:
    assert tools
    left = tmp_path / "tmp" / f"{bootstrap.TREES}dead"
    (left / "mmdebstrap.x/etc").mkdir(parents=True)
    make(tmp_path, 'tar -cf - --files-from=/dev/null >&"$PYZCRX_OUT"')
    assert not left.exists()


STATUSES = {
    signal.SIGTERM: 143,
    signal.SIGINT: 130,
    signal.SIGHUP: 129,
    signal.SIGKILL: -signal.SIGKILL,
}


@pytest.mark.parametrize("number", list(STATUSES))
def test_a_signal_ends_the_build_and_leaves_nothing(
    tools: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Not of mmdebstrap, which itself waits for its children, and nothing in the cache."""
    said = tmp_path / "said"
    os.mkfifo(said)
    child = "sh -c 'echo $$ >&8; exec sleep 1000' &"
    main = "exec 8>$SAID; trap : TERM INT HUP"
    stand_in(tools, f"{main}; {child} setsid {child} echo $$ >&8; wait; wait")
    with subprocess.Popen(
        [sys.executable, "-m", "vm", "build"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env={**os.environ, "SAID": str(said)},
        preexec_fn=lambda: (
            signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        ),
    ) as vm:
        with said.open() as stream:
            family_fds = [os.pidfd_open(int(stream.readline())) for _ in range(3)]
        assert list((cache.root() / "image").glob(f"{cache.TEMPORARY}*"))
        vm.send_signal(number)
        assert vm.wait(60) == STATUSES[number]
        for fd in family_fds:
            assert select.select([fd], [], [], 60)[0], "a program outlived us"
            os.close(fd)
        assert vm.stderr
        assert b"Traceback" not in vm.stderr.read()
    if number == signal.SIGKILL:  # nobody could clear up: the next run does
        (left,) = (cache.root() / "image").glob(f"{cache.TEMPORARY}*")
        held = os.open(left, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)  # until the last of its programs is dead
        os.close(held)
        cache.sweep()
    else:
        assert nothing_left(tmp_path)
    assert not list((cache.root() / "image").glob(f"{cache.TEMPORARY}*"))
