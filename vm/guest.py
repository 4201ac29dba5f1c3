# ruff: noqa: A002 - `input` is what subprocess calls it
"""A guest, from boot to power-off::

with Guest(Config(wheel="none")) as guest:
    assert guest.run(["uname", "-r"]).returncode == 0
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from vm import accel, boot, emulator, gvnics, host, image, qemu, wheel
from vm.boot import Boot
from vm.choice import choose
from vm.config import WHEEL_FOLDER, Config, Share, check_vfio
from vm.console import Console
from vm.errors import BootFailed, BuildFailed, InvalidRequest, VmError
from vm.frames import Kind, encode_json
from vm.process import Completed, Process, Sink
from vm.session import Session

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
SETUP_SECONDS = 120.0
INSTALL_SECONDS = 300.0
KVM_BOOT_SECONDS = 60.0


class Guest:
    """A booted guest. Commands run one after another or side by side, from any thread.

    Leaving the context powers it off; a splat of its kernel that no command has reported
    is raised then.
    """

    def __init__(self, config: Config | None = None) -> None:
        config = config or Config()
        # Before minutes go into an image.
        host.need("setpriv", *image.tools())
        self.config = replace(config, vfio=tuple(map(check_vfio, config.vfio)))
        self._image = image.obtain()
        self._boot: Boot = boot.prepare(config.kernel or choose(), self._image)
        self._qemu = emulator.obtain()
        self._gvnics = ExitStack()
        self._wheel = wheel.obtain(config.wheel)
        self._shares = self._all_shares()
        self.console = Console(config.console)
        try:
            self._session = self._start()
            try:
                self._set_up()
            except BaseException:
                self._session.kill()
                raise
        except BaseException:
            self._gvnics.close()
            self.console.close()
            raise
        self._closed = False

    # Facts about it.

    @property
    def image_key(self) -> str:
        return self._image.key

    @property
    def qemu_pid(self) -> int | None:
        return self._session.pid

    # Boot.

    @property
    def _patience(self) -> int:
        return self._boot.kernel.patience

    def _all_shares(self) -> list[Share]:
        shares = list(self.config.shares)
        kernel = self._boot.kernel
        if kernel.modules and not kernel.stock:
            shares.append(Share(kernel.modules, f"/usr/lib/modules/{kernel.release}"))
        if self.config.gve:
            shares.append(gvnics.share())
        if self._wheel:
            shares.append(Share(self._wheel[0].parent, WHEEL_FOLDER))
        return shares

    def _start(self) -> Session:
        verdict = accel.Verdict(self._boot.key, self._qemu.version)
        self.kvm = self.config.kvm and accel.usable(verdict, self._proves_kvm)
        if self.kvm:
            try:
                return self._boot_once(min(KVM_BOOT_SECONDS, self.config.boot_seconds))
            except BootFailed:
                verdict.remember(False)
                self.kvm = False
                self.console.restart()
        return self._boot_once(self.config.boot_seconds)

    def _proves_kvm(self) -> bool:
        return accel.probe(self._boot, self._qemu.argv)

    def _boot_once(self, seconds: float) -> Session:
        initramfs = host.memory_file("initramfs", self._boot.initramfs())
        try:
            config = self.config
            start = time.monotonic()
            nics = self._start_gvnics()
            port = nics.port.fileno() if nics else None
            wiring = qemu.Wiring(initramfs, self.console.fd, gve=port)
            session = Session(
                lambda channel: qemu.command(
                    config,
                    kernel=self._boot.image,
                    disk=self._image.disk,
                    shares=self._shares,
                    wiring=replace(wiring, channel=channel),
                    program=self._qemu.argv,
                    kvm=self.kvm,
                    gvnics=nics.nics if nics else (),
                ),
                wiring.fds,
                self.console,
                hang_seconds=config.hang_seconds * self._patience,
            )
            try:
                hello = session.answer(Kind.HELLO, seconds * self._patience).json()
            except BaseException:
                session.kill()
                raise
            if nics:
                nics.port.close()
        finally:
            os.close(initramfs)
        self.release: str = hello["release"]
        self.boot_seconds = time.monotonic() - start
        return session

    def _start_gvnics(self) -> gvnics.Gvnics | None:
        """A model for this QEMU alone: what came before has served another one."""
        self._gvnics.close()
        self.gvnics = self._gvnics.enter_context(gvnics.started()) if self.config.gve else None
        return self.gvnics

    def _set_up(self) -> None:
        shares = [
            {"tag": f"share{number}", "target": share.guest, "options": share.mount_options}
            for number, share in enumerate(self._shares)
        ]
        self._session.send(encode_json(Kind.SETUP, shares=shares))
        ready = self._session.answer(Kind.READY, SETUP_SECONDS * self._patience).json()
        if ready["failures"]:
            raise BootFailed("the guest cannot mount its shares", ready["failures"])
        self._session.judge(ready["mark"])
        if self._wheel:
            self._install(Path(WHEEL_FOLDER) / self._wheel[0].name)

    def _install(self, path: Path) -> None:
        # Not byte-compiled: under TCG that takes longer than the programs that run.
        argv = ["python3", "-m", "installer", "--no-compile-bytecode", str(path)]
        done = self.run(argv, timeout=INSTALL_SECONDS * self._patience)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").splitlines()
            raise BuildFailed("pyzcrx's wheel cannot be installed in the guest", lines[-15:])

    # Commands.

    def spawn(
        self,
        argv: Sequence[str],
        *,
        input: bytes | int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
        stdout: Sink | None = None,
        stderr: Sink | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Process:
        """Start a command beside others.

        ``input`` is stdin: bytes, or a file descriptor of the host to read from; none is
        an empty one. ``env`` is added to :data:`ENVIRONMENT`. ``stdout`` and ``stderr``
        are called with bytes as they come; without them they are collected. With
        ``terminal`` (rows, columns) the command gets one, and all output is stdout.
        The command ends with its first process: what that left behind is killed.
        """
        if not argv:
            raise InvalidRequest("no command to run")
        process = self._session.add(
            lambda number: Process(
                self._session, number, argv, input=input, stdout=stdout, stderr=stderr
            )
        )
        process.begin(cwd=cwd, env={**ENVIRONMENT, **(env or {})}, terminal=terminal)
        return process

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        input: bytes | int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
        stdout: Sink | None = None,
        stderr: Sink | None = None,
    ) -> Completed:
        """Run a command to its end; see :meth:`spawn` and :meth:`Process.wait`."""
        process = self.spawn(argv, input=input, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
        try:
            return process.wait(timeout)
        except KeyboardInterrupt:
            process.terminate()
            raise

    def read_text(self, path: str) -> str:
        """A small file of the guest, such as one below /proc."""
        done = self.run(["cat", path])
        if done.returncode:
            raise VmError(f"cannot read {path} in the guest: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    # The end.

    def kill(self) -> None:
        """End it at once and look at nothing."""
        if not self._closed:
            self._closed = True
            self._session.kill()
            self._gvnics.close()
            self.console.close()

    def close(self) -> None:
        """Power it off; raises KernelSplat for what no command has reported."""
        if self._closed:
            return
        self._closed = True
        try:
            self._session.end()
            self._session.judge()
        finally:
            self._gvnics.close()
            self.console.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.kill()
