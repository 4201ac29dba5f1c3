"""The pages' lines for a checkout, such as the tutorial's, run as a reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, Block, blocks

BLOCKS = [block for block in blocks() if block.how == "vm"]
FILES = [block for block in blocks() if block.how.startswith("file ")]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs(block: Block, tmp_path: Path) -> None:
    for each in FILES:
        if each.page == block.page:
            path = tmp_path / each.how.removeprefix("file ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(each.text)
    argv = [sys.executable, "-c"] if block.language == "python" else ["sh", "-ec"]
    done = subprocess.run(
        [*argv, block.text],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "sha256sum" in block.text:
        digest = done.stdout.split()[0]
        assert done.stdout.split().count(digest) == 2, done.stdout
