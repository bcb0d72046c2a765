"""The production line's record: one line a board, on disk before the next board is begun.

The file is only ever appended to, under a lock, so that several lines may write to one file. What
is in it is no secret: names, hashes and times.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from handfast.errors import EnvironmentProblem, UsageError
from handfast.files import sync_folder

FIELDS = (
    "time",
    "outcome",
    "exit_code",
    "board",
    "device_id",
    "hardware_id",
    "idevid_sha256",
    "files_copied",
    "seconds",
)
_KINDS = (".csv", ".jsonl")
_LOCK_WITHIN_S = 10.0
_RETRY_S = 0.05


class Record:
    """A CSV file or one of JSON lines, by its name's ending.

    Raises:
        UsageError: another ending, or a CSV file with other columns.
        EnvironmentProblem: it cannot be written, or somebody keeps it locked.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in _KINDS:
            raise UsageError(f"{path}: a record's name ends in {' or '.join(_KINDS)}")
        self.path = path
        with self._locked() as handle:
            self._require_columns(handle)

    def append(self, entry: Mapping[str, object]) -> None:
        """Add one line and wait until it is on disk; a write that fails leaves nothing of it.

        Args:
            entry: :data:`FIELDS` → value; those that are missing stay empty.

        Raises:
            EnvironmentProblem: the disk is full or broken, or somebody keeps the file locked.
        """
        with self._locked() as handle:
            size = os.fstat(handle).st_size
            # Whoever wrote the last line may have lost power in it: it stays one line.
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            text = ("\n" if torn else "") + (self._header() if size == 0 else "")
            try:
                _write_all(handle, (text + self._line(entry)).encode())
                os.fsync(handle)
            except OSError as error:
                os.ftruncate(handle, size)
                raise EnvironmentProblem(
                    f"{self.path} could not be written ({error.strerror}): make room and go on"
                ) from error

    def _header(self) -> str:
        return _csv_line(FIELDS) if self.path.suffix == ".csv" else ""

    def _line(self, entry: Mapping[str, object]) -> str:
        if self.path.suffix == ".csv":
            return _csv_line(tuple(entry.get(field, "") for field in FIELDS))
        return json.dumps({field: entry.get(field) for field in FIELDS}) + "\n"

    def _require_columns(self, handle: int) -> None:
        expected = self._header().encode()
        found = os.pread(handle, len(expected), 0)
        if expected.startswith(found) and found != expected:
            os.ftruncate(handle, 0)  # power was lost in its very first line
        elif found != expected:
            raise UsageError(f"{self.path} is a CSV file with other columns: name another file")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        is_new = not self.path.exists()
        try:
            handle = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise EnvironmentProblem(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            self._lock(handle)
            if is_new:
                sync_folder(self.path.parent)
            yield handle
        finally:
            os.close(handle)  # and the lock with it

    def _lock(self, handle: int) -> None:
        give_up = time.monotonic() + _LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > give_up:
                    raise EnvironmentProblem(f"another program keeps {self.path} locked") from error
                time.sleep(_RETRY_S)


def _csv_line(values: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
