"""Whether this machine and NIC can receive by zero-copy, and what to do if not.

``read()`` gives :class:`Facts`, ``examine()`` the :class:`Finding` s; ``zcrx-doctor`` prints
them. Needs pyroute2, as :mod:`pyzcrx.nic` does.
"""

from pyzcrx.doctor.explain import explain
from pyzcrx.doctor.facts import Facts, Wanted
from pyzcrx.doctor.finding import Finding, Fix, Severity, ready
from pyzcrx.doctor.fix import apply
from pyzcrx.doctor.read import read
from pyzcrx.doctor.report import after_trial, examine
from pyzcrx.doctor.trial import check as try_out

__all__ = [
    "Facts",
    "Finding",
    "Fix",
    "Severity",
    "Wanted",
    "after_trial",
    "apply",
    "examine",
    "explain",
    "read",
    "ready",
    "try_out",
]
