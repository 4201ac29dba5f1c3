"""PID 1 of the guest: runs the host's commands, reaps orphans, shows signs of life.

One thread, one loop. Nothing in it may block: the windows of ``vm.frames`` bound what is
queued, and a job that does not read or is not read stops only itself. If the agent
itself fails, PID 1 dies, the kernel panics and the host shows the traceback.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from vm.frames import GUEST, PORT, Decoder, Frame, Kind, encode, encode_json
from vm.inside.jobs import Job

BEAT_SECONDS = 5.0
READS_A_TURN = 16  # the kernel hands the port's input out a page at a time
POWER_OFF = ["/usr/bin/busybox", "poweroff", "-f"]
OPEN_FILES = (65536, 1 << 20)


class Agent:
    def __init__(self, port: int, kernel_log: Path = Path("/dev/kmsg")) -> None:
        self._port = port
        self._kernel_log = kernel_log
        self._decoder = Decoder()
        self._outgoing = bytearray()
        self._jobs: dict[int, Job] = {}
        self._dying: list[Job] = []  # over, but their cgroup is not empty yet
        self._marks = 0
        self._next_beat = time.monotonic()
        self._wakeup = _wake_on_child()

    def send(self, data: bytes) -> None:
        self._outgoing += data

    def run(self) -> None:
        self.send(encode_json(Kind.HELLO, release=os.uname().release))
        while True:
            self._step(self._wait())

    # One turn: wait, read, write, reap, kill what is overdue.

    def _wait(self) -> list[tuple[int, int]]:
        # Built anew every turn: fds come and go with windows and ends of files, and a
        # handful of poll entries costs nothing beside the work they announce.
        poll = selectors.PollSelector()
        poll.register(self._wakeup, selectors.EVENT_READ)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        poll.register(self._port, events)
        for job in self._jobs.values():
            if job.exited:
                continue
            for fd in job.readable():
                poll.register(fd, selectors.EVENT_READ, job)
            if job.wants_to_write and job.stdin is not None:
                poll.register(job.stdin, selectors.EVENT_WRITE, job)
        now = time.monotonic()
        deadlines = [self._next_beat, *(j.kill_at for j in self._jobs.values() if j.kill_at)]
        ready = poll.select(max(0.0, min(deadlines) - now))
        for key, mask in ready:
            job = key.data
            if job is None:
                continue
            if mask & selectors.EVENT_WRITE:
                job.write_input()
            elif key.fd in job.outputs:
                job.read_output(key.fd)
        return [(key.fd, mask) for key, mask in ready if key.data is None]

    def _step(self, ready: list[tuple[int, int]]) -> None:
        for fd, mask in ready:
            if fd == self._wakeup:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            elif mask & selectors.EVENT_READ:
                self._read_port()
        self._reap()
        now = time.monotonic()
        for job in self._jobs.values():
            if job.kill_at is not None and now >= job.kill_at:
                job.kill_at = None
                job.kill()
        for job in [j for j in self._jobs.values() if j.exited and j.drained()]:
            self._finish(job)
        self._dying = [job for job in self._dying if not job.forget_cgroup()]
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self.send(encode(Kind.BEAT))
        self._write_port()

    def _read_port(self) -> None:
        for _ in range(READS_A_TURN):
            try:
                data = os.read(self._port, 1 << 16)
            except BlockingIOError:
                return
            if not data:  # the host is gone; nobody else will ever end this guest
                self._power_off()
            for frame in self._decoder.feed(data):
                self._handle(frame)

    def _write_port(self) -> None:
        while self._outgoing:
            try:
                sent = os.write(self._port, memoryview(self._outgoing)[: 32 << 10])
            except BlockingIOError:
                return
            del self._outgoing[:sent]

    def _reap(self) -> None:
        by_pid = {job.process.pid: job for job in self._jobs.values() if not job.exited}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if job := by_pid.get(pid):
                job.process.returncode = os.waitstatus_to_exitcode(status)
                job.exited = True
                job.kill_at = None
                job.kill()  # a job ends with its first process: nothing stays behind

    def _finish(self, job: Job) -> None:
        del self._jobs[job.number]
        job.close()
        self._dying.append(job)
        self.send(
            encode_json(
                Kind.EXIT, job.number, status=job.process.returncode, mark=self._mark_console()
            )
        )

    def _mark_console(self) -> int:
        """Put a line on the serial console behind all that the kernel has said so far.

        The console is written later and slower than this channel; the host waits for
        the mark before it judges the kernel's log. Level 0 passes any console level.
        """
        self._marks += 1
        log = os.open(self._kernel_log, os.O_WRONLY | os.O_APPEND)
        os.write(log, b"<0>pyzcrx: mark %d\n" % self._marks)
        os.close(log)
        return self._marks

    # What the host asks for.

    def _handle(self, frame: Frame) -> None:
        job = self._jobs.get(frame.job)
        match frame.kind:
            case Kind.START:
                self._start(frame.job, frame.json())
            case Kind.INPUT if job:
                job.feed(frame.payload)
            case Kind.ACK if job:
                ack = frame.json()
                job.give_room(Kind(ack["stream"]), ack["bytes"])
            case Kind.SIGNAL if job and not job.exited:
                order = frame.json()
                job.signal(order["signal"])
                if order.get("grace") is not None:
                    job.kill_at = time.monotonic() + order["grace"]
            case Kind.RESIZE if job:
                size = frame.json()
                job.resize(size["rows"], size["columns"])
            case Kind.SETUP:
                self._set_up(frame.json())
            case Kind.END:
                self._power_off()
            case _:
                pass  # for a job that has just ended

    def _start(self, number: int, start: dict[str, Any]) -> None:
        try:
            self._jobs[number] = Job(number, start, self.send)
        except (OSError, subprocess.SubprocessError) as error:
            where = "" if Path(start["cwd"]).is_dir() else f" (no folder {start['cwd']})"
            self.send(
                encode_json(
                    Kind.EXIT,
                    number,
                    error=f"{getattr(error, 'strerror', None) or error}{where}",
                    found=not isinstance(error, FileNotFoundError),
                    mark=self._mark_console(),
                )
            )

    def _set_up(self, setup: dict[str, Any]) -> None:
        failures = []
        for share in setup["shares"]:
            os.makedirs(share["target"], exist_ok=True)
            done = subprocess.run(
                ["mount", "-t", "9p", "-o", share["options"], share["tag"], share["target"]],
                env={"PATH": "/usr/bin:/usr/sbin"},
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                failures.append(done.stderr.strip())
        self.send(encode_json(Kind.READY, GUEST, failures=failures, mark=self._mark_console()))

    def _power_off(self) -> None:
        for job in self._jobs.values():
            job.kill()
        if os.getpid() != 1:
            raise SystemExit  # under test, on somebody's machine
        os.execv(POWER_OFF[0], POWER_OFF)


def _wake_on_child() -> int:
    """An fd that turns readable when a child has ended."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _open_port() -> int:
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT:
            return os.open(f"/dev/{name.parent.name}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    raise SystemExit(f"pyzcrx-agent: no virtio port {PORT} (CONFIG_VIRTIO_CONSOLE)")


def _wait_for_host(port: int) -> None:
    """Until the kernel has heard that the port's other end is open.

    Before that the port reads as at its end, which afterwards means that the host is gone.
    Kernel: drivers/char/virtio_console.c:port_fops_poll().
    """
    poll = select.poll()
    poll.register(port, 0)
    while poll.poll(0):  # POLLHUP, and no event for its end
        time.sleep(0.01)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, OPEN_FILES)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    port = _open_port()
    _wait_for_host(port)
    Agent(port).run()
