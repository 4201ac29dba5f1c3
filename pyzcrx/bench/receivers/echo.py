"""pyzcrx as a server that sends on: what came goes out of the area, copied or not."""

from __future__ import annotations

import fcntl
import socket
import termios
import time
from functools import partial

import pyzcrx
from pyzcrx._send.send import Send
from pyzcrx.bench.gate import Gate
from pyzcrx.bench.receivers.zcrx import finish, registered
from pyzcrx.forwarding.backlog import Backlog
from pyzcrx.forwarding.flow import Flow

POLL_S = 0.001


def _flow(of: pyzcrx.Request | Send) -> Flow:
    assert isinstance(of.context, Flow)
    return of.context


def _wait_until_acknowledged(stream: socket.socket) -> None:
    """What was copied into the socket is with the peer, so that its sending was measured, too."""
    while any(fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4))):
        time.sleep(POLL_S)


def _forward(gate: Gate, zero_copy: bool | None, *, relay: bool = False) -> None:
    """Send back; *relay*: by the other half of the connections, each of which has a partner."""
    turns = 0
    backlog = Backlog(gate.job.area_bytes, None, directions=2 if relay else 1)
    with registered(gate) as (ring, ifq):
        streams = gate.open()
        half = len(streams) // 2 if relay else 0
        sinks = [*streams[half:], *streams[:half]]
        share_bytes = partial(backlog.share_bytes, half or len(streams))
        flows = [
            Flow(ring, ifq, source, sink, share_bytes, zero_copy, None)
            for source, sink in zip(streams, sinks, strict=True)
        ]
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
        for stream in streams:
            _wait_until_acknowledged(stream)
        finish(gate, ifq, turns, bytes_sent_by_copy=ring.send_stats().bytes_copied)
        for stream in streams:
            stream.close()


by_rule = partial(_forward, zero_copy=None)
copied = partial(_forward, zero_copy=False)
zero_copy = partial(_forward, zero_copy=True)
relay_copied = partial(_forward, zero_copy=False, relay=True)
relay_zero_copy = partial(_forward, zero_copy=True, relay=True)
