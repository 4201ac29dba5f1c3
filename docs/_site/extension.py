"""Sphinx's hook: fills the generated parts in, and warns of each public name that is missing.

scripts/docs makes warnings errors, so that a site without a name is no site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging

from _site import pages, public

FETCHED = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
log = logging.getLogger(__name__)


def fill(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = pages.filled(source[0])


def missing(_app: Sphinx, env: BuildEnvironment) -> None:
    """Compare what the built reference has with what is public."""
    documented = set(env.domains["py"].data["objects"])
    for module, name, value in public.objects():
        home = f"{getattr(value, '__module__', module)}.{getattr(value, '__name__', name)}"
        if not documented & {f"{module}.{name}", home}:
            log.warning("%s.%s is not in the reference", module, name)
    for kind in public.error_types():
        if f"pyzcrx.errors.{kind.__name__}" not in documented:
            log.warning("%s is not in the reference", kind.__name__)
    programs = {
        (re.sub(r"[ .]+", "-", str(program)), option)
        for program, option in env.domains["std"].data["progoptions"]
    }
    for program, option in public.all_options():
        if (re.sub(r"[ .]+", "-", program), option) not in programs:
            log.warning("%s %s is not in the reference", program, option)
    text = "".join(env.get_doctree(name).astext() for name in env.found_docs if "reference" in name)
    keys = [key for names in public.statistics_keys().values() for key in names]
    numbers = [str(number) for statuses in public.exit_statuses().values() for number in statuses]
    for word in (*keys, *numbers):
        if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text):
            log.warning("%s is not in the reference", word)


def find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element
) -> Element | None:
    """Docstrings name a class as their module does; find where the reference has it."""
    domain, name = env.domains["py"], str(node.get("reftarget")).rpartition(".")[2]
    homes = [path for path in domain.data["objects"] if path.rpartition(".")[2] == name]
    if node.get("refdomain") != "py" or len(homes) != 1:
        return None
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], homes[0], node, content
    )


def alone(app: Sphinx, failure: Exception | None) -> None:
    """Pages must work offline: nothing in them is fetched from another site."""
    if failure is None:
        for page in Path(app.outdir).rglob("*.html"):
            if found := FETCHED.search(page.read_text()):
                raise SphinxError(f"{page.name} fetches {found[0]} from another site")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", fill)
    app.connect("missing-reference", find)
    app.connect("env-check-consistency", missing)
    app.connect("build-finished", alone)
    return {"parallel_read_safe": True}
