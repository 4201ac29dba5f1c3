"""``zcrx-bench`` without a kernel: figures, tables, what may be compared, who runs where."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pyzcrx.bench import card, figures, table
from pyzcrx.bench.begin import begin
from pyzcrx.bench.figures import Report, Spread, percentile, ratio
from pyzcrx.bench.job import ReceiveJob, SendJob
from pyzcrx.bench.meter import cpu_times
from pyzcrx.bench.pinning import Pinning, interrupts
from pyzcrx.bench.plan import MIB, BenchError, Plan
from pyzcrx.bench.ports import Ports
from pyzcrx.bench.receivers.catalogue import ALL, COMPARED, EXAMPLES, REFERENCE, echoes, gathers
from pyzcrx.bench.rounds import Rounds, unavailable
from pyzcrx.bench.send import send
from pyzcrx.cli.bench import main
from pyzcrx.cli.card import CardOptions, interruptible
from pyzcrx.errors import BadArgument, ZcrxError
from tests.perf import marks
from tests.unit.reports import report, run


def test_the_table_is_readable_at_100_columns() -> None:
    text = table.table(report())
    assert max(map(len, text.splitlines())) <= 100
    [line] = [line for line in text.splitlines() if line.startswith("columns ")]
    assert line.split() == [
        "columns",
        "64.0",
        "(32-128)",
        "0.50",
        "2.00",
        "2.00",
        "0.04",
        "1.00",
        "2.0",
        "4.0",
        "0.00",
    ]
    assert "not pinned or not run: uvloop: uvloop is not installed" in text
    [line] = [line for line in text.splitlines() if line.startswith("recv_into-64K")]
    assert line.split()[-1] == "?"
    assert "c                    2.0       3.0       3.0       3" in text


def test_the_table_says_how_many_queues() -> None:
    lines = table.table(report(queues=4, pinned={"receiver": [7, 6, 5, 4], "sender": 0, "napi": 1}))
    assert "1 connection(s) on each of 4 queues, 256 MiB a run by sendfile" in lines
    assert "CPUs: receiver [7, 6, 5, 4], sender 0, NAPI 1" in lines
    old = report()
    del old.setup["queues"]
    assert "; 1 connection(s), 256 MiB" in table.table(old)


def test_the_table_has_the_memory_of_those_that_told_it() -> None:
    told = report()
    assert "peak memory" not in table.table(told)
    for name, kib in (("c", 65536), ("columns", 98304)):
        for each in told.runs[name]:
            each["peak_kib"] = kib
    lines = [line.split() for line in table.table(told).splitlines()]
    assert ["peak", "memory", "MiB", "of", "first"] in lines
    assert ["columns", "96.0", "1.50"] in lines
    assert not [line for line in lines if line[:1] == ["recv_into-64K"] and len(line) == 3]


def test_the_table_says_how_long_round_trips_are() -> None:
    assert "echo 1024, us" in table.table(report())
    assert "echo 64, us" in table.table(report(echo_bytes=64))


def test_processes_of_a_run_add_up_over_the_time_from_first_to_last() -> None:
    one, two = run(2.0, began_s=100.0), run(3.0, 1.5, began_s=100.5)
    both = figures.added_up([one, two])
    assert both["bytes"] == 512 * MIB
    assert both["bytes_by_queue"] == [256 * MIB, 256 * MIB]
    assert (both["user_s"], both["system_s"], both["waits"]) == (2.0, 1.0, 1024)
    assert (both["began_s"], both["seconds"]) == (100.0, 3.5)
    assert figures.rate(both) == pytest.approx(512 / 3.5)
    assert figures.added_up([one]) == one


def test_a_report_survives_json() -> None:
    assert Report.from_json(report().to_json()) == report()


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '"x"', '{"format": 1}', '{"format": 1, "setup": {}, "other": 1}']
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="not a report"):
        Report.from_json(text)


def test_a_report_of_another_format_is_refused() -> None:
    with pytest.raises(BenchError, match="another version"):
        Report.from_json(report().to_json().replace('"format": 1', '"format": 99'))


def test_comparing_equal_set_ups() -> None:
    after = report()
    after.runs["columns"] = [run(2.0)] * 3
    lines = table.comparison(report(), after).splitlines()
    assert lines[2].split()[1:] == ["64.0", ">", "128.0", "2.00", "4.00", ">", "4.00", "1.00"]


@pytest.mark.parametrize("changed", [{"mtu": 1500}, {"pinned": {}}, {"queues": 2}, {"new": 1}])
def test_different_set_ups_are_not_compared(changed: dict[str, Any]) -> None:
    [name] = changed
    with pytest.raises(BenchError, match=f"the set-ups differ.*{name}"):
        table.comparison(report(), report(**changed))


def test_nothing_in_common_is_not_compared() -> None:
    other = report()
    other.runs = {"epoll": [run()]}
    with pytest.raises(BenchError, match="no receiver is in both"):
        table.comparison(report(), other)


def test_compare_as_a_command(tmp_path: Path) -> None:
    a, b, bad = tmp_path / "a", tmp_path / "b", tmp_path / "bad"
    a.write_text(report().to_json())
    b.write_text(report(mtu=1500).to_json())
    bad.write_bytes(b"\xff")
    runner = CliRunner()
    assert "columns" in runner.invoke(main, ["compare", str(a), str(a)]).output
    for wrong, said in (b, "mtu"), (bad, "not a report"), (tmp_path / "no", "No such file"):
        done = runner.invoke(main, ["compare", str(a), str(wrong)])
        assert done.exit_code == 1
        assert done.output.count("\n") == 1
        assert said in done.output


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.floats(1, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(
    values: list[int], percent: float
) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-6
    assert sum(value < found for value in values) < len(values) * percent / 100 + 1e-6


def test_percentiles_of_a_thousand() -> None:
    values = list(range(1, 1001))
    assert [percentile(values, p) for p in (50, 99, 99.9, 100)] == [500, 990, 999, 1000]


def test_no_values_have_no_figures() -> None:
    with pytest.raises(BenchError):
        percentile([], 50)
    with pytest.raises(BenchError):
        Spread.of([])
    assert ratio([run()], [], figures.rate) is None
    assert ratio([run()], [run(user_s=0) | {"system_s": 0}], figures.cpu) is None


def test_jobs_survive_json() -> None:
    job = ReceiveJob("columns", "::1", 0, interface="eth0", echo=True)
    assert ReceiveJob.from_json(job.to_json()) == job
    sending = SendJob("::1", [1], size_bytes=5)
    assert SendJob.from_json(sending.to_json()) == sending


INTERRUPTS = """           CPU0       CPU1
  0:         44          0   IO-APIC   2-edge      timer
 24:          0       1234   zcrxsim   1  zcrx0-1
 25:          0         12   zcrxsim   1  zcrx1-1
 30:          5          5   PCI-MSIX  eth10-TxRx-0
 31:          5          5   PCI-MSIX  mlx5_comp0@pci:0000:3b:00.0
NMI:          0          0   Non-maskable interrupts
"""


def test_interrupts_are_found_by_their_names() -> None:
    assert interrupts(INTERRUPTS, {"zcrx0"}) == {24: "zcrx0-1"}
    assert interrupts(INTERRUPTS, {"eth1"}) == {}
    assert list(interrupts(INTERRUPTS, {"zcrx0", "zcrx1", "0000:3b:00.0"})) == [24, 25, 31]


@pytest.mark.parametrize(
    ("allowed", "chosen"),
    [({0, 1}, (1, 0, 0)), ({0, 1, 2}, (2, 0, 1)), ({3}, (None, None, None))],
)
def test_cpus_are_chosen(
    allowed: set[int], chosen: tuple[int | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: allowed)
    pinning = Pinning.choose()
    assert (*pinning.receivers, pinning.sender, pinning.napi) == chosen
    assert bool(pinning.problems) == (chosen[0] is None)


@pytest.mark.parametrize(
    ("allowed", "processes", "asked", "chosen", "said"),
    [
        (range(8), 4, {}, (7, 6, 5, 4, 0, 1), ""),
        (range(8), 4, {"receiver": 2}, (2, 7, 6, 5, 0, 1), ""),
        (range(8), 3, {"sender": 7, "napi": 6, "receiver": 0}, (0, 5, 4, 7, 6), ""),
        (range(3), 2, {}, (2, 1, 0, 0), ""),
        (range(3), 3, {}, (2, 1, 2, 0, 0), "3 processes share CPU 1, 2"),
        (range(2), 2, {}, (1, 1, 0, 0), "2 processes share CPU 1"),
        (range(1), 2, {}, (None, None, None, None), "one CPU only"),
    ],
)
def test_processes_have_cpus_of_their_own_where_there_are_enough(
    allowed: range,
    processes: int,
    asked: dict[str, int],
    chosen: tuple[int | None, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(allowed))
    pinning = Pinning.choose(**asked, processes=processes)
    assert (*pinning.receivers, pinning.sender, pinning.napi) == chosen
    assert said in " ".join(pinning.problems)
    assert bool(pinning.problems) == bool(said)
    assert pinning.describe()["receiver"] == list(pinning.receivers)


def test_ports_are_held_for_those_who_come_later() -> None:
    with Ports("127.0.0.1", 2) as ports:
        assert len(set(ports.numbers)) == 2
        for number in ports.numbers * 2:  # and again, after the first has gone
            with socket.create_server(("127.0.0.1", number)) as listener:
                socket.create_connection(listener.getsockname()).close()
        for number in ports.numbers:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", number))


@pytest.mark.parametrize(
    ("host", "said"), [("198.51.100.1", "no interface has that address"), ("", "no address")]
)
def test_ports_of_an_address_that_is_not_ours(host: str, said: str) -> None:
    with pytest.raises(ZcrxError, match=said):
        Ports(host or "not an address", 1)


def test_queues_of_a_card_that_is_left_alone_follow_the_first() -> None:
    with ExitStack() as stack:
        assert CardOptions("eth0", 3, False, False).for_ports(
            "::1", [7, 8], stack, area_bytes=1 << 20
        ) == (3, 4)
        assert CardOptions(None, None, True, False).for_ports(
            "::1", [7, 8], stack, area_bytes=1 << 20
        ) == (0, 1)


@pytest.mark.parametrize(
    "options",
    [
        ["-q", "3"],
        ["--no-setup-nic"],
        ["-i", "eth0", "--no-setup-nic"],
        ["--queues", "2", "--serve-iperf3"],
        ["--queues", "2", "--marks", "json"],
        ["--queues", "0"],
    ],
)
def test_wrong_command_lines(options: list[str]) -> None:
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2
    assert "Usage:" in done.output


def test_a_card_that_is_none_is_one_line() -> None:
    for options in (["--host", "127.0.0.1"], []):
        done = CliRunner().invoke(main, ["-i", "nosuch0", "-r", "epoll", *options])
        assert done.exit_code == 1
        assert done.output.count("\n") == 1
        assert "nosuch0" in done.output


def test_a_signal_ends_a_block_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    put_back = False
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            put_back = True
    assert put_back
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_cards_counters_of_all_our_queues() -> None:
    text = "NIC statistics:\n     rx1_zc_bytes: 5\n     rx2_zc_bytes: 7\n     rx12_zc_bytes: 99\n"
    assert card.counted(text, [1, 2]) == {"zc_bytes": 12}
    assert card.counted(text, [3]) == {}


def test_sharing_the_receivers_cpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert "not alone" in Pinning.choose(receiver=1, sender=1).problems[0]
    with pytest.raises(BadArgument, match="CPU 9"):
        Pinning.choose(receiver=9)


def test_interrupts_that_cannot_be_pinned_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupts").write_text(INTERRUPTS)
    affinity = tmp_path / "irq" / "24" / "smp_affinity_list"
    affinity.parent.mkdir(parents=True)
    affinity.write_text("0-1")
    monkeypatch.setattr("pyzcrx.bench.pinning.PROC", tmp_path)
    pinning = Pinning((1,), 0, 0)
    pinning.pin_interrupts(["zcrx0", "zcrx1"])
    assert affinity.read_text() == "0"
    assert pinning.problems == ["interrupt 25 (zcrx1-1): No such file or directory"]
    pinning.restore()
    assert affinity.read_text() == "0-1"
    pinning.pin_interrupts(["eth7"])
    assert "no interrupts of eth7" in pinning.problems[-1]


def test_cpu_times_by_kind() -> None:
    times = cpu_times("cpu  10 0 10 10 0 0 0\ncpu1 100 0 50 7 0 1 25 0 0 0\nintr 5\n")
    assert times == {
        "1": {
            "user": 1.0,
            "nice": 0.0,
            "system": 0.5,
            "idle": 0.07,
            "iowait": 0.0,
            "irq": 0.01,
            "softirq": 0.25,
        }
    }


PLAN = Plan(("c", "columns"))


@pytest.mark.parametrize(
    ("name", "interface", "counted", "expected"),
    [
        ("recv_into-1M", "zcrx0", 0, 1.0),
        ("columns", None, 0, 1.0),
        ("columns", "zcrx0", 100, 0.0),
        ("c", "zcrx0", 60, 0.4),
        ("columns", "eth0", None, None),
        ("mapped", "zcrx0", None, 0.25),
    ],
)
def test_bytes_copied_are_told_by_who_knows(
    name: str, interface: str | None, counted: int | None, expected: float | None
) -> None:
    plan = dataclasses.replace(PLAN, interface=interface)
    before = {} if counted is None else {"zc_bytes": 1000}
    after = {} if counted is None else {"zc_bytes": 1000 + counted}
    figures_ = {"bytes": 100, "bytes_copied": 25}
    assert card.copied(plan, name, figures_, before, after) == expected


def test_what_an_echo_copies_counts_as_well() -> None:
    plan = dataclasses.replace(PLAN, interface="zcrx0")
    for by_copy, expected in (0, 0.1), (50, 0.6):
        figures_ = {"bytes": 100, "bytes_sent_by_copy": by_copy}
        found = card.copied(plan, "echo", figures_, {"zc_bytes": 0}, {"zc_bytes": 90})
        assert found == expected


def test_echoes_run_only_where_they_are_named() -> None:
    ways = ("echo", "echo-copied", "echo-zero-copy", "relay-copied", "relay-zero-copy")
    assert tuple(name for name in ALL if echoes(name)) == ways
    assert set(COMPARED) == {name for name in ALL if not echoes(name)}
    plan = dataclasses.replace(PLAN, receivers=("echo",), how="iperf3")
    assert "comes back" in unavailable(plan)["echo"]


def test_a_relay_has_no_round_trips() -> None:
    plan = dataclasses.replace(PLAN, receivers=("echo", "relay-copied"), echo_rounds=5)
    assert [*unavailable(plan)] == ["relay-copied"]


class Returning(threading.Thread):
    """Sends back what comes, each connection's by the one that is *partner* further on."""

    def __init__(self, connections: int, partner: int, spoil: bool) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections, self._partner, self._spoil = connections, partner, spoil
        self.start()

    def run(self) -> None:
        with self._listener, ExitStack() as stack:
            socks = [
                stack.enter_context(self._listener.accept()[0]) for _ in range(self._connections)
            ]
            with ThreadPoolExecutor(len(socks)) as pool:
                list(pool.map(self._one, socks, socks[self._partner :] + socks[: self._partner]))

    def _one(self, source: socket.socket, sink: socket.socket) -> None:
        while data := bytearray(source.recv(1 << 16)):
            if self._spoil:
                data[-1] ^= 1
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("spoil", [False, True])
@pytest.mark.parametrize("how", ["sendfile", "send"])
def test_the_sender_compares_what_comes_back(
    relay: bool, check: bool, spoil: bool, how: str
) -> None:
    server = Returning(3 * (1 + relay), 3 * relay, spoil)
    job = SendJob(
        "127.0.0.1",
        [server.port],
        connections=3,
        size_bytes=(5 << 20) + 1,
        how=how,
        back=True,
        relay=relay,
        check=check,
    )
    if check and spoil:
        with pytest.raises(SystemExit, match="not what was sent"):
            send(job)
    else:
        assert send(job) == {}
    server.join()


def test_a_receiver_that_cannot_run_has_a_reason() -> None:
    assert "zcrx-c-receiver" in unavailable(PLAN)["c"]
    example = dataclasses.replace(PLAN, receivers=("liburing",))
    assert "not installed" in unavailable(example)["liburing"]
    example = dataclasses.replace(example, example="/bin/true", interface=None)
    assert "needs a NIC" in unavailable(example)["liburing"]
    example = dataclasses.replace(example, interface="eth0")
    assert unavailable(example) == {}
    assert "one connection" in unavailable(dataclasses.replace(example, read=True))["liburing"]
    assert unavailable(dataclasses.replace(PLAN, c_receiver="/bin/true")) == {}


def test_the_gathering_example_lies_beside_the_other(tmp_path: Path) -> None:
    for name in EXAMPLES.values():
        (tmp_path / name).touch(0o755)
    plan = dataclasses.replace(
        PLAN, receivers=tuple(EXAMPLES), example=str(tmp_path / "zcrx"), interface="eth0"
    )
    assert unavailable(plan) == {}
    (tmp_path / "zcrx-gather").unlink()
    assert "no zcrx-gather beside" in unavailable(plan).pop("liburing-gather")


@pytest.mark.parametrize(("name", "gathers"), [("c", False), ("c-gather", True)])
def test_c_gathers_as_long_as_the_plan_says(name: str, gathers: bool, tmp_path: Path) -> None:
    said = tmp_path / "said"
    receiver = tmp_path / "receiver"
    receiver.write_text(f'#!/bin/sh\necho "$@" > {said}\nexit 1\n')
    receiver.chmod(0o755)
    plan = dataclasses.replace(
        PLAN, receivers=(name,), c_receiver=str(receiver), gather_us=77, rounds=1
    )
    with pytest.raises(BenchError):
        Rounds(plan, Pinning.choose(None, None, None, 1)).run(name)
    assert ("-g 77" in said.read_text()) is gathers


def test_what_gathers_is_the_reference_and_does_not_echo() -> None:
    assert [name for name in ALL if gathers(name)] == ["c-gather", "liburing-gather"]
    assert ALL[0] == REFERENCE


def test_only_receivers_that_cannot_run_is_an_error() -> None:
    done = CliRunner().invoke(main, ["-r", "c"], env={"PATH": ""})
    assert done.exit_code == 1
    assert "no zcrx-c-receiver" in done.output


def test_marks_carry_their_numbers() -> None:
    code = marks.begin(0x12345)
    assert code == bytes.fromhex("0f1f8400") + (0x5A112345).to_bytes(4, "little")
    payload = marks.payload(0x7FFF_1234_5678, 8192)
    displacements = [int.from_bytes(payload[i + 4 : i + 8], "little") for i in range(0, 40, 8)]
    high, low, pages_high, pages = (d & 0xFFFFF for d in displacements[:4])
    assert high << 20 | low == 0x7FFF_1234_5678 >> 12
    assert (pages_high, pages) == (0, 3)  # 8 KiB from the middle of a page


def test_marks_run_on_any_machine() -> None:
    marker = marks.Marker()
    for code in (marks.begin(1), marks.payload(4096, 4096), marks.end(1)):
        if function := marker.prepare(code):
            function()


def test_figures_are_json_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    meter = marks.Marking(1)
    meter.payload(4096, 4096)
    meter.start()
    meter.stop(size_bytes=10, chunks=2, turns=1)
    meter.tell()
    told = json.loads(capsys.readouterr().out)
    assert (told["bytes"], told["chunks"], told["turns"]) == (10, 2, 1)
    assert told["seconds"] >= 0
    assert told["maps"]


def test_a_run_that_is_marked_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(Path(__file__).parents[1])
    argv = ["-r", "recv_into-64K", "--rounds", "2", "--size", "64K", "--echo-rounds", "0", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pyzcrx.cli.bench", *argv, "--marks", "tests.perf.marks"],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=True,
    )
    runs = json.loads(done.stdout)["runs"]["recv_into-64K"]
    assert [each["mark"] for each in runs] == [1, 2]
    assert all(each["maps"] for each in runs)


def test_memory_traffic_for_each_byte() -> None:
    told = report()
    assert not any(table.traffic(told))
    for name, share in ("c", 1.0), ("columns", 1.5):
        for each in told.runs[name]:
            each["memory_bytes"] = share * each["bytes"]
    lines = [line.split() for line in table.traffic(told)]
    assert lines[1:] == [["c", "1.00", "1.00"], ["columns", "1.50", "1.50"]]


def test_a_process_is_known_before_a_signal_is_heard() -> None:
    begun: list[subprocess.Popen[str]] = []
    show = (
        "import os, resource, signal; print(signal.pthread_sigmask(0, []), os.sched_getaffinity(0),"
        " len({*resource.getrlimit(resource.RLIMIT_NOFILE)}))"
    )
    cpu = min(os.sched_getaffinity(0))
    popen = subprocess.Popen

    def interrupted(*args: Any, **options: Any) -> subprocess.Popen[str]:
        signal.raise_signal(signal.SIGTERM)
        return popen(*args, **options)

    with (
        mock.patch("subprocess.Popen", interrupted),
        pytest.raises(KeyboardInterrupt),
        interruptible(),
    ):
        begin(begun, [sys.executable, "-c", show], cpu)
    [process] = begun
    # Nothing stays blocked, neither there nor here; descriptors there are as many as may be.
    assert process.communicate() == (f"set() {{{cpu}}} 1\n", "")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
