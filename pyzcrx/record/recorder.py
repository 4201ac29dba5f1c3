"""Connections into files: each request's bytes go to the file that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

from pyzcrx._receive.batch import Batch
from pyzcrx._receive.events import End, Event, Failed, Limit
from pyzcrx._receive.request import Request
from pyzcrx.errors import ZcrxError
from pyzcrx.record.file import RecordFile


@dataclass(frozen=True)
class Recorded:
    """How one recording ended."""

    file: RecordFile
    error: ZcrxError | None
    """Why it is not the whole stream; None: all that the peer sent is on disk."""


class Recorder:
    """Writes what a ring receives, in the thread that owns the ring.

    A slow disk holds up the turns, so TCP slows the peers down. A file that fails ends its own
    request alone.
    """

    def __init__(self) -> None:
        self._files: dict[Request, RecordFile] = {}
        self._failures: dict[Request, ZcrxError] = {}

    def __len__(self) -> int:
        """Recordings under way."""
        return len(self._files)

    def begin(self, request: Request, file: RecordFile) -> None:
        """What *request* receives from now on goes to *file*, which is closed at its end."""
        self._files[request] = file

    def take(self, batch: Batch) -> None:
        """Write all of *batch* and release it: the kernel gets its buffers back."""
        written = set()
        for run in batch.runs():
            request = run.request
            if request not in self._files or request in self._failures:
                continue
            try:
                for i in range(run.start, run.stop):
                    self._files[request].append(batch.view(request, i))
            except ZcrxError as error:
                self._fail(request, error)
            written.add(request)
        for request in written - self._failures.keys():
            try:
                self._files[request].flush()
            except ZcrxError as error:
                self._fail(request, error)
        batch.release()

    def _fail(self, request: Request, error: ZcrxError) -> None:
        self._failures[request] = error
        request.cancel()

    def ended(self, event: Event) -> Recorded | None:
        """The recording that *event* ends, with its file on disk; None: it ends none."""
        if not isinstance(event, End | Limit | Failed) or event.request not in self._files:
            return None
        file = self._files.pop(event.request)
        error = self._failures.pop(event.request, None)
        if error is None:
            error = event.error if isinstance(event, Failed) else None
            try:
                file.finish()
            except ZcrxError as failure:
                error = failure
        file.close()
        return Recorded(file, error)
