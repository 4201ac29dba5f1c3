"""How long the tests wait for what must come: longer on a kernel that checks itself."""

import os

SLOW = float(os.environ.get("PYZCRX_TEST_SLOW", "1"))
PATIENCE_S = 30 * SLOW
"""For what is under way."""
START_S = 60 * SLOW
"""For a program to begin or to end."""
