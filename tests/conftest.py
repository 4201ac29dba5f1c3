"""Lets tests import ``vm`` and ``tests`` from the checkout.

At the end of the path: pyzcrx itself comes from where it is installed.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
