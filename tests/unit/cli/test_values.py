"""Every option and argument of every command, with every value that nobody can mean.

What is refused is refused while the command line is read, in one line and with status 2. What
is accepted is meant; the command then runs, as far as an interface that is not there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pyzcrx.cli import values
from tests.unit.cli import forked, programs
from tests.unit.cli.programs import MEMBERS, ROOTS, VM, Ended, Member
from vm import values as vm_values

SILLY = (
    *("", " ", "\t", "\n", "a\nb", " 1", "1 ", "-", "--", "-1", "0", "00", "1_0", "0x10", "1.5"),
    *("1e400", "1e-300", "nan", "inf", "-inf", "None", "True"),
    *(str(1 << bits) for bits in (31, 32, 63, 64)),
    *("9" * 30, "9" * 5000, "9999999999999G", "1T", "G", "0K"),
    *(
        "\\0",
        "\x01",
        "\x7f",
        "x" * 100_000,
        "é",
        "٣",
        "\udcff",
        "%",
        "%s",
        "=",
        ",",
        ":",
        "1:",
        "1=1",
    ),
    *("/", ".", "..", "/dev/full", "/dev/full/x.png", "/nosuch/x.png", "/proc/x.png", "/.png"),
    *(
        "fe80::1%",
        "fe80::1%nosuch0",
        "[::1",
        "::1]",
        "[127.0.0.1]",
        "127.0.0.1%lo",
        "1.2.3",
        "256.1.1.1",
    ),
    *("tcp4 dst 1.2.3.4:65536", "tcp4 dst 1.2.3.4/99:80", "tcp6 dst [::ffff:1.2.3.4]:80", "tcp4"),
    *("threaded=-1", "threaded=3", "gro-flush-timeout=" + "9" * 30, "nosuch=1", "threaded=1e1"),
    *("0-", "3-1", "0,,1", "999999", "root", "root:root", "nobody:nosuch", "nan=nan", "x=nan"),
)

Meant = Callable[[Any, str, Any], bool]


def _in_range(kind: Any, text: str, value: Any) -> bool:
    assert kind.min is not None, "no least"
    assert kind.max is not None, "no most"
    assert kind.max < 1 << 63
    return text.isascii() and text == text.strip() and kind.min <= value <= kind.max


def _seconds(_kind: Any, text: str, value: float) -> bool:
    return (
        text.isascii() and "_" not in text and values.LEAST_SECONDS <= value <= values.MOST_SECONDS
    )


def _cpu(_kind: Any, text: str, value: Any) -> bool:
    return text.isascii() and text.isdecimal() and 0 <= value < 1 << 16


def _existing(kind: Any, _text: str, value: Any) -> bool:
    return os.path.isfile(value) and (not kind.executable or os.access(value, os.X_OK))


def _writable(_kind: Any, _text: str, value: Any) -> bool:
    path = Path(value)
    return os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()


def _report(_kind: Any, text: str, value: Any) -> bool:
    return str(value) == text  # read, and refused, by the command


def _word(_kind: Any, text: str, _value: Any) -> bool:
    """Names that nobody has, but that somebody could have."""
    return bool(text) and text == text.strip() and text.isprintable() and "/" not in text


def _host_name(_kind: Any, text: str, _value: Any) -> bool:
    return _word(_kind, text, _value) and not text.replace(".", "").isdecimal()


TYPES: dict[str, Meant] = {
    # by the name of the class, or of the Text
    "Number": _in_range,
    "Size": _in_range,
    "Seconds": _seconds,
    "seconds": _seconds,
    "Cpu": _cpu,
    "cpus": lambda _kind, text, value: {*text} <= {*"0123456789,-"} and bool(value),
    "share": lambda _kind, _text, value: value.host.is_dir(),
    "Choice": lambda kind, text, _: text in kind.choices,
    "Path": _existing,
    "ReportFile": _report,
    "OutputFile": _writable,
    "file": _writable,
    "interface": _word,
    "host": _host_name,
    "folder": lambda _kind, _text, value: value.is_dir(),
    "kernel": lambda _kind, text, _: os.path.isdir(text),
    "parameters": lambda _kind, text, _: text.isascii() and (text == "" or text.isprintable()),
    "receiver": lambda _kind, text, _: text.isascii() and text.isidentifier(),
    # of these no silly value has a meaning
    **dict.fromkeys(
        (
            "NetNs",
            "host:port",
            "user",
            "flow",
            "setting",
            "pid",
            "bytes",
            "module",
            "wheel",
            "device",
            "plugin",
        ),
        lambda *_: False,
    ),
    "test": lambda *_: False,
    "step": lambda _kind, _text, value: value[0].isidentifier() and math.isfinite(value[1]),
}


def type_name(kind: click.ParamType[Any]) -> str:
    named = isinstance(kind, values.Text | values.Name | vm_values.Text) and kind.name in TYPES
    return kind.name if named else type(kind).__name__


def parameters() -> Iterator[tuple[Member, click.Parameter]]:
    for member in MEMBERS:
        for parameter in member.command.params:
            flag = isinstance(parameter, click.Option) and parameter.is_flag
            if not flag and parameter.type is not click.UNPROCESSED:
                yield member, parameter


PARAMETERS = list(parameters())
IDS = [f"{member} {parameter.opts[0]}" for member, parameter in PARAMETERS]

BASES: dict[str, list[str]] = {
    # Arguments with which a command ends soon and changes nothing.
    "zcrx-echo": ["-i", "nosuch0", "-p", "0"],
    "zcrx-relay": ["127.0.0.1:9", "-i", "nosuch0", "-p", "0"],
    "zcrx-recv": ["-o", "{folder}/out", "-i", "nosuch0", "-p", "0"],
    "zcrx-bench": ["-i", "nosuch0"],
    "zcrx-bench compare": [],
    "zcrx-bench plot": ["{folder}/x.png"],
    "zcrx-doctor": ["-i", "nosuch0"],
    "zcrx-nic": [],
    "zcrx-nic show": ["nosuch0"],
    "zcrx-nic setup": ["nosuch0", "--dry-run"],
    "zcrx-nic restore": ["nosuch0"],
}


def taken(parameter: click.Parameter, text: str) -> tuple[bool, Any]:
    """Whether the parameter takes the value, and as what."""
    several = parameter.multiple or parameter.nargs != 1
    try:
        value = parameter.process_value(
            click.Context(click.Command("x")), (text,) if several else text
        )
    except click.ClickException:
        return False, None
    return True, value[0] if several else value


@pytest.mark.parametrize(("member", "parameter"), PARAMETERS, ids=IDS)
def test_a_value_that_nobody_means_is_refused(member: Member, parameter: click.Parameter) -> None:
    name = type_name(parameter.type)
    assert name in TYPES, f"give {name} bounds, or say in TYPES what it takes"
    for text in SILLY:
        accepted, value = taken(parameter, text)
        if accepted:
            assert TYPES[name](parameter.type, text, value), f"{text[:80]!r} became {value!r}"
            continue
        words = [*member.words[1:], *_given(parameter, text)]
        done = CliRunner().invoke(member.root, words)
        assert done.exit_code in (1, 2), (text[:80], done.output[-500:])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        said = done.stderr.splitlines()
        assert said[-1].startswith(("Error: ", "  ")) if done.exit_code == 2 else len(said) == 1


def _given(parameter: click.Parameter, text: str) -> list[str]:
    if isinstance(parameter, click.Argument):
        return ["--", text]
    return (
        [f"{parameter.opts[0]}={text}"]
        if parameter.opts[0][:2] == "--"
        else [parameter.opts[0], text]
    )


def silly_runs(root: str, folder: Path) -> Iterator[list[str]]:
    """Arguments for each value that is accepted, and for each flag.

    A word, which each option of its type takes in the same way, is given to one of them.
    """
    given = set()
    for member in MEMBERS:
        if member.words[0] != root:
            continue
        base = [*member.words[1:], *(text.format(folder=folder) for text in BASES[str(member)])]
        for parameter in member.command.params:
            if isinstance(parameter, click.Option) and parameter.is_flag:
                yield [*base, parameter.opts[0]]
        for owner, parameter in PARAMETERS:
            if owner.words != member.words:
                continue
            for text in SILLY:
                if not taken(parameter, text)[0] or (type_name(parameter.type), text) in given:
                    continue
                if type_name(parameter.type) in ("interface", "host", "ReportFile"):
                    given.add((type_name(parameter.type), text))
                if isinstance(parameter, click.Argument):
                    # the arguments before it are the base's
                    yield [*member.words[1:], "--", *_arguments(member, parameter, text, folder)]
                else:
                    yield [*base, *_given(parameter, text)]


def _arguments(member: Member, wanted: click.Argument, text: str, folder: Path) -> list[str]:
    """The value for one argument, something harmless for the others."""
    others = {"interface": "nosuch0", "picture": f"{folder}/x.png"}
    return [
        text if each is wanted else others.get(str(each.name), "/nosuch/report")
        for each in member.command.params
        if isinstance(each, click.Argument)
    ]


@pytest.mark.parametrize("root", sorted(ROOTS.keys() - {VM}))
def test_a_command_ends_in_one_line_whatever_it_is_given(root: str, tmp_path: Path) -> None:
    cases = list(silly_runs(root, tmp_path))
    found = programs.run(root, [(words, forked.WRITABLE) for words in cases], tmp_path)
    for words, ended in zip(cases, found, strict=True):
        short = [word[:80] for word in words]
        assert ended.status in (0, 1, 2), (short, ended)
        assert_told(ended, str(short))
        if ended.status == 0:
            assert ended.out, short


def assert_told(ended: Ended, what: str) -> None:
    assert "Traceback" not in ended.err or "--debug" in what, (what, ended.err)
    assert "internal error" not in ended.err, (what, ended.err)
    if ended.status == 1 and "--debug" not in what and not ended.out:
        # but for warnings, and what a progress bar leaves where there is no terminal
        said = ended.err.splitlines()
        lines = [line for line in said if ": warning: " not in line and line != "zcrx-bench"]
        assert len(lines) == 1, (what, ended.err)
    if ended.status == 2:
        assert ended.err.startswith("Usage: "), (what, ended.err)
