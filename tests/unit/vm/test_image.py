"""The recipe of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import bootstrap, image


def test_the_kernel_is_the_backports_whatever_its_version() -> None:
    (kernel,) = [name for name in image.PACKAGES if name.startswith("linux-image")]
    assert kernel == f"linux-image-amd64/{bootstrap.BACKPORTS}"


@pytest.mark.parametrize("part", ["PACKAGES", "UNWANTED"])
def test_another_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    before = image.key()
    monkeypatch.setattr(image, part, (*getattr(image, part), "more"))
    assert image.key() != before


def test_the_tools_are_asked_for_only_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert {"mke2fs", "debugfs", "mmdebstrap"} <= set(image.tools())
    (tmp_path / "pyzcrx/image" / image.key()).mkdir(parents=True)
    assert image.tools() == ()
