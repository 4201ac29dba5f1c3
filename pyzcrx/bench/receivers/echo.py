"""pyzcrx as an echo server: what came goes back out of the area, copied or not."""

from __future__ import annotations

from functools import partial

import pyzcrx
from pyzcrx._send.send import Send
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.receivers.zcrx import finish, registered
from pyzcrx.forwarding.flow import Flow

LEAST_BACKLOG_BYTES, MOST_BACKLOG_BYTES = 1 << 18, 1 << 20
"""A 64th of the area, but not less (zcrx-echo without an option), nor more."""


def _flow(of: pyzcrx.Request | Send) -> Flow:
    assert isinstance(of.context, Flow)
    return of.context


def _echo(gate: Gate, zero_copy: bool | None) -> None:
    turns = 0
    backlog_bytes = min(max(gate.job.area_bytes // 64, LEAST_BACKLOG_BYTES), MOST_BACKLOG_BYTES)
    with registered(gate) as (ring, ifq):
        streams = gate.open()
        flows = [Flow(ring, ifq, s, s, backlog_bytes, zero_copy, None) for s in streams]
        while not all(flow.finished and flow.idle for flow in flows):
            turns += 1
            batch = ring.wait()
            for run in batch.runs():
                _flow(run.request).take(run)
            batch.release()
            for event in batch.events:
                match event:
                    case pyzcrx.Sent(request=send, size_bytes=size_bytes):
                        _flow(send).sent(send, size_bytes)
                    case pyzcrx.End(request=request):
                        _flow(request).received_all(ended=True)
                    case pyzcrx.Limit(request=request):
                        _flow(request).received_all(ended=False)
                    case pyzcrx.Failed(error=error):
                        raise error
            for flow in flows:
                flow.go_on()
        finish(gate, ifq, turns, bytes_sent_by_copy=ring.send_stats().bytes_copied)
        for stream in streams:
            stream.close()


by_rule = partial(_echo, zero_copy=None)
copied = partial(_echo, zero_copy=False)
zero_copy = partial(_echo, zero_copy=True)
