"""What ``import pyzcrx`` shows, and that its texts use the field's words."""

from __future__ import annotations

import ast
import enum
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import pyzcrx
from pyzcrx import aio, doctor, errors, nic, placement, privilege, supervisor, testing, types

CAUGHT = {
    "AreaExhausted",
    "BufferInUse",
    "ClosedError",
    "KernelError",
    "PeerReset",
    "ZcrxError",
}
ROOT = Path(pyzcrx.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
OURS = re.compile(
    r"(?<![\w.`/-])(?:cards?|mend(?:s|ed)?|patience|notices?)(?![\w`(=-]|\.\w)", re.IGNORECASE
)
"""NIC, fix or hint, timeout, notification. In code they may be names of modules and fields."""


def kinds() -> dict[str, type[BaseException]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }


def texts(source: str) -> Iterator[str]:
    """Messages, help and docstrings: strings that have a blank, f-strings in pieces."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def test_the_face_is_small() -> None:
    assert len(pyzcrx.__all__) <= 26
    assert {name for name in kinds() if hasattr(pyzcrx, name)} == CAUGHT
    assert set(pyzcrx.__all__) >= CAUGHT


def test_the_errors_come_with_the_package() -> None:
    script = "import pyzcrx; print(pyzcrx.errors.QueueBound.__name__)"
    argv = [sys.executable, "-P", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "QueueBound\n"


def test_the_nics_errors_are_in_nic_too() -> None:
    found = {name for name, kind in kinds().items() if issubclass(kind, errors.NicError)}
    assert len(found) > 5
    assert found <= set(nic.__all__)
    assert all(getattr(nic, name) is kinds()[name] for name in found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_use_the_fields_words(path: Path) -> None:
    found = [text for text in texts(path.read_text()) if OURS.search(text)]
    assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("'the card is down'", True),
        ('"""Notices that it is gone."""', True),
        ("f'{name}: mend it'", True),
        ("'the NIC is down'", False),
        ("'card.split'", False),
        ("'see :mod:`pyzcrx.cli.card` for it'", False),
        ("'``card`` is None'", False),
        ("card = 'a discard of wildcards'", False),
    ],
)
def test_code_is_no_text(source: str, found: bool) -> None:
    assert any(OURS.search(text) for text in texts(source)) is found


# -- what the objects show ----------------------------------------------------------

SHOWN = {
    "Accept": "cancel context fd token",
    "Accepted": "fd request",
    "Area": (
        "anonymous close closed dmabuf fd from_dmabuf memfd page_bytes readable size_bytes token "
        "udmabuf view"
    ),
    "AreaAdvice": "least_bytes low_water_bytes size_bytes",
    "Audit": "consumed forgotten held_back in_batch in_buffers in_cq in_rq taken",
    "Batch": "buffer events lengths offs release runs size_bytes view",
    "Buffer": "copied exports off release released since_ns token view",
    "Chunk": "nbytes release take views",
    "Data": "buffer request",
    "End": "request",
    "Failed": "error request",
    "Held": "buffers request size_bytes",
    "Holder": "age_ns copied leased_at request size_bytes",
    "Ifq": (
        "add_area area areas audit flush gone held_back hold_times holders ifindex interface nodev "
        "notifications receive receive_into rq rq_entries rq_view rx_buf_len rx_queue stats stream "
        "total_bytes zcrx_id"
    ),
    "Limit": "request",
    "Presence": "COMPILED_OUT NO_IO_URING PRESENT UNKNOWN_TO_KERNEL",
    "Pressure": "limit_bytes low_water_bytes policy",
    "Probe": (
        "area_flags as_dict ctrl_ops features kernel liburing nodev notes permitted query ready "
        "register_flags ring_errno stats zcrx"
    ),
    "ReceiverStats": (
        "alloc_failures as_dict buffers bytes bytes_copied bytes_zero_copy connections "
        "held_buffers held_max_ns rearms seconds"
    ),
    "RefillQueue": "entries head pending tail view",
    "RelayStats": "as_dict backward_bytes connections forward_bytes open refused resets",
    "Request": "cancel context fd ifq over received resume token",
    "Ring": (
        "accept batches close closed cq_head cq_tail cq_view debug events fileno ifqs in_flight "
        "register_ifq register_napi ring_fd send send_stats wait wake wakeup_fd"
    ),
    "Run": "batch buffers request size_bytes start stop views",
    "Send": "abort buffers context done fd size_bytes",
    "SendStats": (
        "abandoned_bytes accepted_bytes as_dict bytes_copied bytes_reported_copied bytes_zero_copy "
        "copied sends unnotified_bytes unnotified_max_bytes"
    ),
    "Sent": "request size_bytes",
    "nic.Reader": "close state",
    "nic.Setup": "abandon check close ifindex interface plan queue queues steer",
    "Stream": (
        "at_end close fileno read read1 readable readall readexactly readinto readline readlines "
        "readuntil statistics timeout write"
    ),
    "aio.Attached": "close closed events loop",
    "aio.EventLoop": (
        "close create_connection ifq ring sock_accept sock_connect sock_recv sock_recv_into "
        "sock_recvfrom sock_recvfrom_into"
    ),
    "aio.LeaseProtocol": "chunk_received data_received",
    "aio.RingSelector": "close get_map modify register ring select unregister",
    "aio.StreamReader": (
        "at_eof exception read readexactly readinto readline readuntil statistics zero_copy"
    ),
    "aio.StreamWriter": "close is_closing start_tls write write_eof writelines zero_copy",
    "nic.Flow": "dst dst_port ethtool matches overlaps parse protocol src src_port version",
    "nic.Irq": "cpus effective_cpus name number",
    "nic.Lease": "ifindex netns_id queue",
    "nic.Napi": "defer_hard_irqs gro_flush_timeout_ns id irq irq_suspend_timeout_ns pid threaded",
    "nic.Plan": "commands ifindex interface queues steps warnings",
    "nic.Queue": "dmabuf holder index io_uring lease napi_id rx_buf_len xsk",
    "nic.Rings": "hds_thresh hds_thresh_max rx rx_buf_len rx_max tcp_data_split tx tx_max",
    "nic.Rss": "context fields hash_function input_transform is_default key table",
    "nic.Rule": "context flow location queue spec",
    "nic.State": (
        "addresses bus carrier channels driver features firmware from_json ifindex interface "
        "irq_of irqs more_queues mtu napi_of napis netns numa_node private_flags queue queues "
        "rings rss rule_slots rules rx_queues to_json unread up xdp_features xdp_program"
    ),
    "nic.Steered": "close flow",
    "nic.Wanted": "area_bytes flows force in_turn irq_cpus napi queue queues rx_ring",
    "testing.ModelKernel": (
        "breaches cq_entries flushes free listen niovs out socket takes user_refs"
    ),
    "testing.ModelListener": "backlog close connect error fileno",
    "testing.ModelSocket": (
        "acknowledge acknowledges close ended error fileno finish local rcvbuf_bytes reset "
        "room_bytes segments send sent unread_after_end zero_copy_error"
    ),
    "doctor.Facts": "card drivers kernel machine memory privilege queue queue_state wanted",
    "doctor.Finding": "as_dict fix hint id severity what why",
    "doctor.Fix": "command key value",
    "doctor.Severity": "NOTE OK PROBLEM UNKNOWN WARNING",
    "doctor.Wanted": "area_bytes flow queue rx_buf_len",
    "placement.Incoming": "cpu napi_id",
    "placement.Tally": "as_dict busy_poll_us note",
    "privilege.User": "gid parse uid",
    "supervisor.Worker": "drop",
}
"""What the objects that users get show, beside what their bases outside the package do."""


def is_public(module: ModuleType, name: str) -> bool:
    """Of a module that has no list: what it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return name in listed
    return not name.startswith("_") and getattr(module, name).__module__ == module.__name__


CLASSES = {
    prefix + name: found
    for prefix, module in (
        ("", pyzcrx),
        ("", types),
        ("aio.", aio),
        ("nic.", nic),
        ("testing.", testing),
        ("doctor.", doctor),
        ("placement.", placement),
        ("privilege.", privilege),
        ("supervisor.", supervisor),
    )
    for name, found in vars(module).items()
    if inspect.isclass(found) and not issubclass(found, BaseException) and is_public(module, name)
}


def described(kind: type) -> dict[str, str]:
    """The public attributes of *kind* that the package defines, each with its text."""
    found: dict[str, str] = {}
    for base in kind.__mro__:
        if not base.__module__.startswith("pyzcrx."):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in found:
                continue
            named = f"``{name}``" in (kind.__doc__ or "") or f"{name}:" in (kind.__doc__ or "")
            is_plain = type(value) in (int, str, type(None)) or isinstance(value, enum.Enum)
            text = "" if is_plain else inspect.getdoc(value) or ""
            # A named tuple's fields have a text that says nothing.
            found[name] = (kind.__doc__ or "") if named else re.sub(r"^Alias for .*", "", text)
        for name, text in assigned(base).items():
            found[name] = found.get(name) or text
    return found


def assigned(kind: type) -> dict[str, str]:
    """Attributes that its body or its methods assign, with the string that follows each."""
    found: dict[str, str] = {}
    try:
        (root,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):  # C has no such attributes
        return found
    for node in ast.walk(root):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for i, statement in enumerate(body):
            if not isinstance(statement, ast.Assign | ast.AnnAssign):
                continue
            after = body[i + 1] if i + 1 < len(body) else None
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = str(after.value.value)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in (part for each in targets for part in ast.walk(each)):
                name = ""
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    name = target.attr
                elif isinstance(target, ast.Name) and node is root:
                    name = target.id
                if name and not name.startswith("_"):
                    in_class = f"``{name}``" in (kind.__doc__ or "") or re.search(
                        rf"\b{name}(, \w+)*:", kind.__doc__ or ""
                    )
                    found[name] = found.get(name) or text or ("its class" if in_class else "")
    return found


def test_every_class_is_listed() -> None:
    assert set(CLASSES) == set(SHOWN)


@pytest.mark.parametrize("name", CLASSES)
def test_an_object_shows_what_is_meant(name: str) -> None:
    """Internals begin with an underscore."""
    assert " ".join(sorted(described(CLASSES[name]))) == SHOWN[name]


@pytest.mark.parametrize("name", CLASSES)
def test_what_it_shows_has_a_text(name: str) -> None:
    assert [each for each, text in described(CLASSES[name]).items() if not text] == []


@pytest.mark.parametrize("name", CLASSES)
def test_an_object_made_shows_no_more(name: str) -> None:
    """C's members are in the list, too."""
    kind = CLASSES[name]
    outside = {n for b in kind.__mro__ if not b.__module__.startswith("pyzcrx.") for n in vars(b)}
    assert {n for n in dir(kind) if not n.startswith("_")} - outside <= set(SHOWN[name].split())
