"""Which kernel a guest boots: what ``--kernel``, ``--modules`` and ``--debug`` mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vm import archive, image, kbuild, kernel
from vm.errors import InvalidRequest
from vm.kernel import Kernel

STOCK = "stock"
DEBIAN = "debian:"


def choose(
    wanted: str | Path | Kernel | None = None,
    modules: Path | None = None,
    *,
    debug: bool = False,
    rebuild: bool = False,
) -> Kernel:
    """The kernel, fetched or built where need be; with ``rebuild`` from nothing.

    ``wanted``: "stock" or None, the image's own; "debian:7.2", the newest 7.2 of the archive;
    or a path: a source tree, a folder with a kernel, its image, a .deb. With ``debug`` it
    is built from source, the distribution's or that of the tree.
    """
    if isinstance(wanted, Kernel):
        return wanted
    named = wanted is not None and wanted != STOCK and not str(wanted).startswith(DEBIAN)
    if modules and (debug or not named):
        raise InvalidRequest(
            "--modules goes with a kernel that is built already, named by --kernel"
        )
    if wanted is None or wanted == STOCK:
        if debug:
            release = _stock(rebuild=False).release
            return kbuild.of_distribution(release, debug=True, rebuild=rebuild)
        return _stock(rebuild=rebuild)
    if isinstance(wanted, str) and wanted.startswith(DEBIAN):
        if debug:
            raise InvalidRequest("--debug builds from source: name a source tree, or no kernel")
        return archive.find(wanted.removeprefix(DEBIAN), rebuild=rebuild)
    path = Path(wanted)
    if debug or _not_built(path):
        return kbuild.of_tree(path, debug=debug, rebuild=rebuild)
    return kernel.locate(path, modules)


def debug_at_hand() -> Kernel | None:
    """The debug kernel of the distribution's source, if somebody has built it here."""
    found = kbuild.has_distribution(_stock(rebuild=False).release, debug=True)
    return choose(debug=True) if found else None


def _stock(*, rebuild: bool) -> Kernel:
    stock = image.obtain(rebuild=rebuild)
    return replace(kernel.locate(stock.vmlinuz), stock=True, held=stock.entry)


def _not_built(path: Path) -> bool:
    return kbuild.is_source(path) and not kernel.is_built(path)
