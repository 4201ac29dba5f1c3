"""Lets tests import ``vm`` and ``tests`` from the checkout.

At the end of the path: pyzcrx itself comes from where it is installed.
"""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parents[1]))

# A busy machine is no failure.
settings.register_profile("pyzcrx", deadline=None)
settings.load_profile("pyzcrx")
