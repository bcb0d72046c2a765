"""Who attacks: a few processes of their own, and a simulated board; each makes one at a time."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

from handfast.errors import CheckFailed
from handfast.lab.demo.intruders.attempt import Answer, Attempt
from handfast.lab.parallel import in_parallel

# Longer than the deadlines inside an attempt: who does not answer by then is stopped or gone.
_ANSWER_S = 45.0
# An attempt under way is ended in time, so that no key stays in a file: it is there for a moment.
_END_S = 2.0


class Attacker(Protocol):
    """Makes attempts, one after another."""

    def make(self, attempt: Attempt) -> Answer:
        """Make one attempt and say what it met."""


def attack(
    processes: Sequence[Attacker], board: Attacker, attempts: Sequence[Attempt]
) -> dict[int, Answer]:
    """Make all attempts, each attacker its own in their order; return the answers by number.

    Raises:
        CheckFailed: an attacker is gone.
        BoardProblem: the board is.
    """
    shares: list[tuple[Attacker, list[Attempt]]] = [(a, []) for a in (*processes, board)]
    for attempt in attempts:
        share = shares[-1] if attempt.by == "board" else shares[attempt.turn % len(processes)]
        share[1].append(attempt)
    answers = in_parallel(lambda share: [share[0].make(a) for a in share[1]], shares)
    return {answer.number: answer for share in answers for answer in share}


class AttackerProcess:
    """Runs :mod:`.attacker` until the end of a ``with`` block, or of this process.

    Args:
        urls: of the gateway's listeners, by name.
        trust: the gateway's root (PEM).
        source: the loopback address that it calls from, its own.
        folder: for its complaints, and a folder that private keys pass through, gone in the end.
    """

    def __init__(self, urls: Mapping[str, str], trust: str, *, source: str, folder: Path) -> None:
        self._source = source
        self._scratch = folder / f"attacker-{source}"
        self._scratch.mkdir(mode=0o700)
        command = [sys.executable, "-m", "handfast.lab.demo.intruders.attacker"]
        command += ["--source", source, "--scratch", str(self._scratch)]
        with (folder / f"attacker-{source}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                # Ctrl-C in the terminal is the demo's to handle.
                start_new_session=True,
            )
        self._received = b""
        self._at_work = threading.Lock()
        self._writing = threading.Lock()
        self._write(json.dumps({"urls": dict(urls), "trust": trust}))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def make(self, attempt: Attempt) -> Answer:
        """See :class:`Attacker`.

        Raises:
            CheckFailed: the process is gone, or does not answer.
        """
        with self._at_work:
            self._write(attempt.order())
            return Answer.from_line(self._read())

    def _write(self, line: str) -> None:
        # The process has read every line before: the pipe's buffer has room for this one.
        try:
            with self._writing:
                os.write(_handle(self._process.stdin), line.encode() + b"\n")
        except OSError:
            raise self._gone() from None

    def _read(self) -> str:
        handle = _handle(self._process.stdout)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        deadline = time.monotonic() + _ANSWER_S
        while b"\n" not in self._received:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise CheckFailed(f"the attacker at {self._source} does not answer")
            if not (data := os.read(handle, 65536)):
                raise self._gone()
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()

    def _gone(self) -> CheckFailed:
        return CheckFailed(f"the attacker at {self._source} is gone")

    def close(self) -> None:
        """Let the process end, or end it; an attempt that does not end in time fails."""
        with self._writing:
            _close(self._process.stdin)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with self._at_work:
            _close(self._process.stdout)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()


def _handle(pipe: IO[bytes] | None) -> int:
    if pipe is None or pipe.closed:
        raise OSError("closed")
    return pipe.fileno()
