"""A receiver's process: ``python -m pyzcrx.bench.receive JOB``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pyzcrx.bench.gate import Gate
from pyzcrx.bench.job import ReceiveJob
from pyzcrx.bench.meter import Meter
from pyzcrx.bench.receivers.catalogue import RECEIVERS
from pyzcrx.errors import ZcrxError


def main(text: str, metered: Callable[[ReceiveJob], Meter] = lambda _: Meter()) -> None:
    """Receive once, then tell the figures; one line on standard error if it fails.

    text: the job as JSON. metered: gives what measures it.
    """
    job = ReceiveJob.from_json(text)
    try:
        gate = Gate(job, metered(job))
        RECEIVERS[job.receiver].function(short=bool(job.short))(gate)
    except (ZcrxError, OSError) as error:
        sys.exit(f"{job.receiver}: {error}")
    gate.meter.tell()


if __name__ == "__main__":
    main(sys.argv[1])
