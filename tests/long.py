"""How often: a little in the ordinary run, as often as the docs say under ``--long``."""

import os

LONG = os.environ.get("PYZCRX_TEST_LONG") == "1"


def rounds(short: int, long: int) -> int:
    """How many rounds this run wants."""
    return long if LONG else short
