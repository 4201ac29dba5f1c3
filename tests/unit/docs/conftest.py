"""Lets tests import what builds the site from the checkout."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "docs"))
