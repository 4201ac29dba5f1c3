"""``zcrx-doctor``: whether this machine and NIC can receive by zero-copy, and what to do."""

from __future__ import annotations

import datetime
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

import pyzcrx
from pyzcrx.cli.common import Command
from pyzcrx.cli.values import BUFFER_SIZE, INTERFACE, QUEUE, SIZE, Text
from pyzcrx.doctor import shared
from pyzcrx.doctor.facts import Facts, Wanted
from pyzcrx.doctor.finding import Finding, Severity, ready
from pyzcrx.doctor.fix import apply
from pyzcrx.doctor.read import read
from pyzcrx.doctor.report import after_trial, examine
from pyzcrx.doctor.trial import check as try_out
from pyzcrx.nic.flow import Flow

_COLOURS = {"problem": "red", "warning": "yellow", "ok": "green", "unknown": "cyan", "note": "cyan"}
_LABEL_WIDTH = 9
_MAX_WIDTH = 100


@click.command("zcrx-doctor", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-i", "--interface", type=INTERFACE, help="The NIC to receive on.")
@click.option(
    "-q",
    "--queue",
    type=QUEUE,
    metavar="N",
    help="Its rx queue.  [default: the last that is free]",
)
@click.option(
    "--flow",
    type=Text("flow", Flow.parse, as_usage=False),
    metavar="FLOW",
    help="What is to arrive there, as 'tcp4 dst 192.0.2.1:9999'.",
)
@click.option(
    "--area",
    "area_bytes",
    type=SIZE,
    default="64M",
    show_default=True,
    help="Memory that the program will use.",
)
@click.option(
    "--rx-buf-len", type=BUFFER_SIZE, default=None, help="Bytes of a buffer.  [default: a page]"
)
@click.option(
    "--trial",
    is_flag=True,
    help="Try a registration too. Restarts the queue, with one driver all queues.",
)
@click.option("--fix", is_flag=True, help="Fix what a setting can fix, asking before each.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON on standard output.")
@click.option(
    "--report",
    "as_report",
    is_flag=True,
    help="A text to send to the project: no address, no host name. Best with --trial.",
)
@click.version_option(pyzcrx.__version__, prog_name="zcrx-doctor")
def main(
    interface: str | None,
    queue: int | None,
    flow: Flow | None,
    area_bytes: int,
    rx_buf_len: int | None,
    trial: bool,
    fix: bool,
    yes: bool,
    as_json: bool,
    as_report: bool,
) -> None:
    """Say whether zero-copy receive works here, and what to do if it does not.

    Looks at the kernel, at this process's privileges and memory, and with -i at a
    NIC. Needs no privilege, and says what it could not see. Changes nothing
    without --fix. Status 0: ready, 1: not ready, 2: wrong command line.
    """
    if interface is None and (queue is not None or flow is not None):
        raise click.UsageError("--queue and --flow need --interface")
    if yes and not fix:
        raise click.UsageError("--yes goes with --fix")
    if fix and as_json and not yes:
        raise click.UsageError("--fix with --json cannot ask: add --yes")
    if as_report and (interface is None or as_json or fix):
        raise click.UsageError("--report needs --interface, and goes with neither --json nor --fix")
    wanted = Wanted(queue, flow, area_bytes, rx_buf_len or 0)

    facts = read(interface, wanted)
    if as_report:
        facts = shared.anonymous(facts)
    findings = _examine(facts, trial)
    done: list[str] = []
    if fix and any(finding.fix for finding in findings):
        if not as_json:
            _show(facts, findings)
        done = _make_fixes(facts, findings, ask=not yes)
        facts = read(interface, wanted)
        findings = _examine(facts, trial)
    if as_report:
        click.echo(shared.text(facts, findings, datetime.date.today()))
    elif as_json:
        _show_json(facts, findings, done)
    else:
        _show(facts, findings)
    sys.exit(0 if ready(findings) else 1)


def _examine(facts: Facts, trial: bool) -> list[Finding]:
    findings = examine(facts)
    if trial:
        findings = after_trial(try_out(facts, findings), findings)
    return findings


def _make_fixes(facts: Facts, findings: Sequence[Finding], *, ask: bool) -> list[str]:
    """Say each change, ask, make it; gives what was done."""
    ifindex = facts.card.state.ifindex if facts.card is not None else None
    done = []
    for finding in findings:
        if finding.fix is None:
            continue
        click.echo(f"fix: {finding.fix.command}", err=True)
        if ask and not click.confirm("     do it?", err=True):
            continue
        apply(finding.fix, ifindex)
        done.append(finding.fix.command)
    return done


# -- what is printed ----------------------------------------------------------


def _subject(facts: Facts) -> str:
    if facts.card is None:
        return "this machine"
    state = facts.card.state
    queue = "" if facts.queue is None else f", queue {facts.queue}"
    return f"{state.interface} ({state.driver or 'no driver'}){queue}"


def _verdict(findings: Sequence[Finding]) -> str:
    counts = [
        f"{n} {severity.value}{'s' if n > 1 and severity is not Severity.UNKNOWN else ''}"
        for severity in (Severity.PROBLEM, Severity.WARNING, Severity.UNKNOWN)
        if (n := sum(finding.severity is severity for finding in findings))
    ]
    text = "ready" if ready(findings) else "not ready"
    return f"{text}: {', '.join(counts)}" if counts else text


def _show(facts: Facts, findings: Sequence[Finding]) -> None:
    width = min(_MAX_WIDTH, shutil.get_terminal_size((_MAX_WIDTH, 24)).columns)
    click.echo(f"zcrx-doctor: {_subject(facts)}")
    for finding in findings:
        label = finding.severity.value
        coloured = click.style(label, fg=_COLOURS[label], bold=label == "problem")
        click.echo(coloured + _indented(finding.what, width, " " * (_LABEL_WIDTH - len(label))))
        if label == "ok":
            continue
        for name, text in (("why", finding.why), ("hint", finding.hint)):
            if text:
                click.echo(" " * _LABEL_WIDTH + f"{name:5}" + _indented(text, width, "", more=5))
    verdict = _verdict(findings)
    click.secho(verdict, fg="green" if verdict.startswith("ready") else "red", bold=True)


def _indented(text: str, width: int, lead: str, *, more: int = 0) -> str:
    """Wrapped behind the label; commands are never broken at a hyphen."""
    indent = _LABEL_WIDTH + more
    lines = textwrap.wrap(
        text, max(20, width - indent), break_on_hyphens=False, break_long_words=False
    )
    return lead + ("\n" + " " * indent).join(lines)


def _show_json(facts: Facts, findings: Sequence[Finding], done: Sequence[str]) -> None:
    click.echo(
        json.dumps(
            {
                "interface": facts.card.state.interface if facts.card is not None else None,
                "queue": facts.queue,
                "ready": ready(findings),
                "findings": [finding.as_dict() for finding in findings],
                "fixed": list(done),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
