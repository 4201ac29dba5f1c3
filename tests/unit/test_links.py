"""A card that is taken away: what the kernel can tell, and what becomes of the requests."""

from __future__ import annotations

import errno

import pytest

import pyzcrx
from pyzcrx._queue import queue as queue_module
from pyzcrx._queue.registration import interface_gone
from pyzcrx.testing import ModelKernel
from tests.unit.test_model import filled, receiving, settled

pytestmark = pytest.mark.filterwarnings("ignore::pyzcrx.errors.PressureWarning")


def test_every_request_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = ModelKernel()
    with receiving(kernel, pages=4) as (ring, ifq):
        limited = ifq.receive(filled(kernel, 100).fileno(), limit=100)
        assert [type(event) for event in ring.events()] == [pyzcrx.Data, pyzcrx.Limit]
        busy, idle = kernel.socket(), kernel.socket()
        for page in range(8):  # more than the area: the rest waits for buffers
            busy.send(bytes([page]) * 4096)
        requests = [ifq.receive(sock.fileno()) for sock in (busy, idle)]
        held = [e.buffer for e in ring.events(timeout=0) if isinstance(e, pyzcrx.Data)]
        assert ifq._core.parked == 1

        ifq._core.queue.interface, ifq._core.queue.rx_queue = "eth9", 3  # as if it were bound
        ifq._core.check_interface()
        assert ifq.gone is None  # the model cannot tell, like kernels before 7.3
        monkeypatch.setattr(queue_module, "interface_gone", lambda *_: True)
        ifq._core.check_interface()
        ifq._core.check_interface()

        failed = [e for e in ring.events() if isinstance(e, pyzcrx.Failed)]
        assert {e.request for e in failed} == set(requests)
        assert len(failed) == 2
        assert all(e.error is ifq.gone for e in failed)
        assert isinstance(ifq.gone, pyzcrx.errors.InterfaceGone)
        assert "eth9, queue 3" in str(ifq.gone)
        with pytest.raises(pyzcrx.errors.InterfaceGone):
            ifq.receive(idle.fileno())
        with pytest.raises(pyzcrx.errors.InterfaceGone):
            limited.resume()
        for buffer in held:
            buffer.release()
        settled(kernel, ring, ifq)


@pytest.mark.parametrize(
    ("answer", "gone"),
    [(-errno.EFAULT, True), (-errno.EINVAL, False), (-errno.EOPNOTSUPP, False)],
)
def test_what_the_kernel_answers(answer: int, gone: bool) -> None:
    kernel = ModelKernel()
    asked = []

    def zcrx_ctrl(_raw: object, ctrl: object) -> int:
        asked.append(ctrl)
        return answer

    kernel._pz_zcrx_ctrl = zcrx_ctrl  # type: ignore[assignment, method-assign]
    with receiving(kernel) as (ring, ifq):
        assert interface_gone(ring._core, ifq.zcrx_id) is gone
    assert len(asked) >= 1
