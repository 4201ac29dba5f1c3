"""Connections into files: each request's bytes go to the file that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from pyzcrx._receive.batch import Batch
from pyzcrx._receive.events import End, Event, Failed, Limit
from pyzcrx._receive.request import Request
from pyzcrx.errors import ZcrxError
from pyzcrx.record.series import FileSeries

SYNC_BYTES = 256 << 20
WRITERS = 32
"""Files that are written beside each other at most."""


@dataclass(frozen=True)
class Recorded:
    """How one recording ended."""

    request: Request
    file: FileSeries
    error: ZcrxError | None
    """Why it is not the whole stream; None: all that the peer sent is on disk."""


class Recorder:
    """Writes what a ring receives, in the thread that owns the ring.

    Of several files that a turn brought bytes for, those that wait for a disk (direct writes,
    syncs) are written beside each other, by threads, which :meth:`close` ends. The turn ends with
    the last of them: a slow disk holds up the turns, so TCP slows the peers down, and the area
    never holds more than what one turn brought. A file that fails ends its own request alone.

    sync_bytes: each file is synced whenever that many bytes of it are not on disk: so much
    is lost at most where a disk fails. cancel: how to end a request.
    """

    def __init__(
        self,
        sync_bytes: int = SYNC_BYTES,
        cancel: Callable[[Request], None] = Request.cancel,
    ) -> None:
        self._sync_bytes = sync_bytes
        self._cancel = cancel
        self._files: dict[Request, FileSeries] = {}
        self._failures: dict[Request, ZcrxError] = {}
        self._writers = ThreadPoolExecutor(WRITERS, "zcrx-recv")  # which begins none yet

    def __len__(self) -> int:
        """Recordings under way."""
        return len(self._files)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._files)

    def begin(self, request: Request, file: FileSeries) -> None:
        """What *request* receives from now on goes to *file*, which is closed at its end."""
        self._files[request] = file

    def take(self, batch: Batch) -> None:
        """Write all of *batch* and release it: the kernel gets its buffers back."""
        written = set()
        for run in batch.runs():
            request = run.request
            if request not in self._files or request in self._failures:
                continue
            append = self._files[request].append
            try:
                for chunk in run.views():
                    append(chunk)
            except ZcrxError as error:
                self._fail(request, error)
            written.add(request)
        self._flush(written - self._failures.keys())
        batch.release()

    def _flush(self, requests: Collection[Request]) -> None:
        """Have their files written, and synced where that is due."""
        waiting: dict[Request, Future[None]] = {}
        try:
            for request in requests:
                file = self._files[request]
                due = file.position - file.synced_bytes >= self._sync_bytes
                if len(requests) > 1 and (due or file.direct):
                    waiting[request] = self._writers.submit(_write, file, due=due)
                    continue
                try:
                    _write(file, due=due)
                except ZcrxError as error:
                    self._fail(request, error)
        finally:
            wait(waiting.values())  # whatever happens: the batch is theirs, and the files
        for request, written in waiting.items():
            try:
                written.result()
            except ZcrxError as error:
                self._fail(request, error)

    def _fail(self, request: Request, error: ZcrxError) -> None:
        self._failures[request] = error
        self._cancel(request)

    def ended(self, event: Event) -> Recorded | None:
        """The recording that *event* ends, with its file on disk; None: it ends none."""
        if not isinstance(event, End | Limit | Failed) or event.request not in self._files:
            return None
        return self._finish(event.request, event.error if isinstance(event, Failed) else None)

    def abandon(self, error: ZcrxError) -> Iterator[Recorded]:
        """End all that is under way, with what was received on disk; *error* says why."""
        for request in list(self._files):
            yield self._finish(request, error)

    def _finish(self, request: Request, error: ZcrxError | None) -> Recorded:
        file = self._files.pop(request)
        failure = self._failures.pop(request, None)
        if failure is None:
            try:
                file.finish()
            except ZcrxError as unfinished:
                failure = unfinished
        file.close()
        return Recorded(request, file, failure or error)

    def close(self) -> None:
        """End the threads that write. Idempotent."""
        self._writers.shutdown()


def _write(file: FileSeries, *, due: bool) -> None:
    file.flush()
    if due:
        file.sync()
