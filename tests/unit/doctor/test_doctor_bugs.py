"""Kernel bugs: which release has which, and who hears of it; the page has the same ones."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pyzcrx.doctor import Facts, Severity, examine
from pyzcrx.doctor.bugs import BUGS, FIRST, SEEN, Bug
from pyzcrx.probe import Presence
from tests.pages import PAGES
from tests.sim.bugs import BUGS as SCRIPTS
from tests.unit.doctor.facts import facts, on_card
from tests.unit.nic.cards import gve

BY_NAME = {bug.name: bug for bug in BUGS}
PAGE = (PAGES / "docs/reference/kernel-bugs.md").read_text()


def running(release: str, **changes: Any) -> Facts:
    return facts(probe={"kernel": release}, **changes)


def found(of: Facts) -> set[str]:
    return {f.id.removeprefix("bug.") for f in examine(of) if f.id.startswith("bug.")}


# -- which kernel has which --------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "has"),
    [
        ("6.14.11", False),
        ("6.15.0", True),
        ("6.16.12", True),
        ("6.18.15", True),
        ("6.18.16", False),
        ("6.18.44-fc-v657", False),
        ("6.19.5+deb14-amd64", True),
        ("6.19.6", False),
        ("7.0", False),
        ("7.0.1", False),
        ("7.3.4+deb13-amd64", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_a_bug_that_is_fixed_in_several_branches(release: str, has: bool) -> None:
    assert BY_NAME["CVE-2026-43121"].in_kernel(release) is has


@pytest.mark.parametrize(
    ("release", "has"),
    [("6.18.44", False), ("6.19.20", True), ("7.0.3", True), ("7.0.4", False), ("7.1-rc1", False)],
)
def test_a_bug_that_came_later(release: str, has: bool) -> None:
    assert BY_NAME["CVE-2026-45995"].in_kernel(release) is has


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: str(bug.name))
def test_every_bug_begins_ends_and_says_what_to_do(bug: Bug) -> None:
    assert not bug.in_kernel("6.14.99")
    assert bug.in_kernel(bug.since)
    assert bug.what
    assert bug.why
    assert bug.around
    for fix in bug.fixed:
        assert not bug.in_kernel(fix)
        assert not bug.in_kernel(f"{fix}-distribution.1")
    assert bug.in_kernel("99.0") is not bool(bug.fixed)
    assert "\n" not in bug.what


# -- who hears of it ----------------------------------------------------------------


def test_published_bugs_are_warned_of_with_their_fix() -> None:
    case = running("6.19.5", card=None)
    assert found(case) == {"CVE-2026-43121", "zcrx-freelist", "CVE-2026-45995"}
    (race,) = (f for f in examine(case) if f.id == "bug.CVE-2026-43121")
    assert race.severity is Severity.WARNING
    assert "6.19.5" in race.what
    assert "fixed in 6.18.16, 6.19.6, 7.0" in race.hint
    assert "CVE-2026-43174" in found(running("6.19.5"))


def test_a_kernel_without_them() -> None:
    assert found(running("7.3.4")) == set()
    assert found(running("6.16.1", card=None)) >= {"CVE-2025-40046"}


@pytest.mark.parametrize("presence", set(Presence) - {Presence.PRESENT})
def test_a_kernel_without_zcrx_has_none(presence: Presence) -> None:
    case = facts(
        probe={"kernel": "6.16.1", "zcrx": presence, "ring_errno": 1, "notes": ("ring set-up",)}
    )
    assert found(case) == set()


def test_bugs_of_a_driver_are_for_its_nics() -> None:
    on_gve = replace(on_card(), state=gve(rings=on_card().state.rings, features={}))
    assert found(running("7.3.4", card=on_gve)) == {"refused-restart", "gve-header-overflow"}
    assert "gve-rx-stall" in found(running("7.1.9", card=on_gve))
    assert found(running("7.3.4")) == set()


@pytest.mark.parametrize(("gro", "warned"), [(True, True), (False, False), (None, False)])
def test_a_bug_of_a_feature_counts_while_it_is_on(gro: bool | None, warned: bool) -> None:
    features = on_card().state.features | ({} if gro is None else {"rx-gro": gro})
    assert ("gro-unreadable" in found(running("7.3.4", card=on_card(features=features)))) is warned


def test_a_kernel_newer_than_what_was_seen_only_may_have_it() -> None:
    features = {**on_card().state.features, "rx-gro": True}
    case = running("7.9.1", card=on_card(features=features))
    (bug,) = (f for f in examine(case) if f.id == "bug.gro-unreadable")
    assert bug.severity is Severity.UNKNOWN
    assert "may have" in bug.what
    assert SEEN in bug.hint


# -- the page ------------------------------------------------------------------------


def rows() -> dict[str, tuple[str, str]]:
    """Of the page's table: name to kernels and fix."""
    pattern = r"^\| \[([\w.-]+)\]\(#([\w.-]+)\) \| [^|]+ \| ([^|]+) \| ([^|]+) \|"
    lines = re.findall(pattern, PAGE, re.MULTILINE)
    for name, anchor, _, _ in lines:
        assert anchor == name.lower()
    return {name: (since, fix) for name, _, since, fix in lines}


def test_the_page_and_the_table_agree() -> None:
    assert rows() == {
        bug.name: (
            f"{bug.since} on" + (f", {bug.driver}" if bug.driver else ""),
            ", ".join(bug.fixed) or "not known",
        )
        for bug in BUGS
    }


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: str(bug.name))
def test_each_bug_has_a_section_with_all_that_a_reader_needs(bug: Bug) -> None:
    section = re.search(rf"^### {re.escape(bug.name)}\n(.*?)(?=^### |^## |\Z)", PAGE, re.M | re.S)
    assert section is not None
    for part in ("**Effect.**", "**Reproduce.**", "**Way around.**", "**Kernels.**"):
        assert part in section[1]


def test_each_script_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"tests\.sim\.bugs ([\w.-]+)", PAGE))
    assert named == set(SCRIPTS) <= set(BY_NAME)


def test_the_page_has_no_other_sections() -> None:
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == [bug.name for bug in BUGS]
    assert FIRST in PAGE
