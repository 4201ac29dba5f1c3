"""The kernel's bug of urgent data (docs/explanation/security.md)."""

from __future__ import annotations

from collections.abc import Iterator

from pyzcrx.doctor.facts import Facts
from pyzcrx.doctor.finding import Finding, Severity


def check(facts: Facts) -> Iterator[Finding]:
    if facts.card is None:
        return
    if facts.card.urgent_cleared:
        yield Finding("urgent.rule", Severity.OK, "nftables keeps urgent data from TCP")
        return
    seen = (
        "no nftables rule clears it"
        if facts.card.urgent_cleared is False
        else ("whether nftables clears it cannot be seen")
    )
    yield Finding(
        "urgent.rule",
        Severity.WARNING,
        f"a packet with TCP's URG flag can panic this kernel: {seen}",
        "tcp_urg() of Linux up to 7.3.4 at least is a BUG() where payload lies in an area. pyzcrx "
        "has its own sockets drop such packets; others whose packets come to the queue do not",
        "python3 -c 'from pyzcrx.urgent import NFT_RULES as r; print(r)' | nft -f -",
    )
