"""The recipe of the image."""

from __future__ import annotations

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
