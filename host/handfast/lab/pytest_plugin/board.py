"""A board under test: the same on a simulator, on an emulator and on the desk."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from handfast.errors import BoardProblem
from handfast.lab.pytest_plugin.device import Device
from handfast.lab.pytest_plugin.power import NATIVE_BACK_S, Bench
from handfast.lab.pytest_plugin.transcript import Transcript

if TYPE_CHECKING:
    import re

    from handfast.boards.serial_link import SerialLink
    from handfast.lab.pytest_plugin.gateway import Gateway

_ENROLLED_S = 60.0
_POLL_S = 0.05
# Flash operations in which "any" falls: writing a small file takes five to ten of them.
_ANY = 24
_REPORT_EVERY_S = 1

Answer = TypeVar("Answer")
At = int | Literal["any"]
State = Literal["unknown", "repl", "application"]


class PowerCut(BoardProblem):
    """The board lost its power while it did what was asked, as it was meant to."""


class Board:
    """One board, leased for a test.

    Args:
        name: its name in reports.
        capabilities: what it and its bench can do.
        bench: what moves its power and its reset line.
        files: the folder whose files are copied onto it when it is provisioned.
    """

    def __init__(
        self, name: str, capabilities: frozenset[str], bench: Bench, files: Path | None = None
    ) -> None:
        self.name = name
        self.capabilities = capabilities
        self.bench = bench
        self.transcript = Transcript()
        self.devices: list[tuple[Gateway, Device]] = []
        self.notes: list[str] = []
        self.answers_ms: list[list[float]] = []  # [unix seconds, ms that exec or call took]
        self.heap_free: list[list[float]] = []  # [unix seconds, octets] when a test has ended
        self.silence = ""  # why it did not answer last
        self._files = files
        self._link: SerialLink | None = None
        self._back_by = 0.0  # when a line is there again that went with a restart
        self._state: State = "unknown"
        self._cutting = False
        self._random = random.Random()  # noqa: S311 - where a cut falls is no secret

    def __repr__(self) -> str:
        return f"<Board {self.name}>"

    @property
    def serial_url(self) -> str:
        """The path or URL of its serial line."""
        return self.bench.serial_url

    # Provisioning

    def provision(self, gateway: Gateway, *, enrol: bool = True) -> Device:
        """Make it a device of the gateway: library, identity, your own files; start it.

        Args:
            gateway: what it enrols at; through a network, as ``network.route(gateway)`` gives it.
            enrol: wait until the gateway has given it an operational certificate.

        Returns:
            The device, under an id that no test has used before.

        Raises:
            HandfastError: as :func:`handfast.boards.provision.provision`.
            BoardProblem: it has not enrolled in time; the message ends with what it printed.
        """
        from handfast.boards.provision import provision

        self._let_go()
        device = Device(gateway.fresh_name(self.name))
        provision(
            self.serial_url,
            gateway=gateway.admin,
            device_id=device.device_id,
            networks=gateway.networks,
            telemetry_interval_s=_REPORT_EVERY_S,
            start=False,
        )
        self.devices.append((gateway, device))
        if files := _project_files(self._files):
            self._repl().push(files)
        self.start()
        if enrol:
            enough_s = _ENROLLED_S * self.bench.pace
            self._until(lambda: gateway.has_enrolled(device), enough_s, f"{device} did not enrol")
        return device

    def start(self) -> None:
        """Run its application (``main.py``) from a fresh start."""
        link = self._open()
        self._stop_listening()
        self.transcript.follow(link.start_application(back_within_s=self._back_within_s))
        self._state = "application"

    # On the device

    def exec(self, code: str, *, timeout_s: float = 10.0) -> str:
        """Run code on the board and return what it printed; a running application is stopped.

        Raises:
            DeviceError: the code raised, with the board's traceback.
            NoAnswer: it did not end in time.
        """
        printed = self._ask(lambda link: link.exec(code, timeout_s))
        self.transcript.add(printed)
        return printed

    def call(self, function: str, *arguments: Any, timeout_s: float = 10.0) -> Any:
        """Call ``"module.function"`` on the board and return its value as Python has it.

        Arguments and value are what ``repr`` writes and ``ast.literal_eval`` reads.

        Raises:
            DeviceError: the function raised, with the board's traceback.
            BoardProblem: the value is no such literal.
            NoAnswer: it did not end in time.
        """
        return self._ask(lambda link: link.call(function, *arguments, timeout_s=timeout_s))

    def expect(self, pattern: str, timeout_s: float = 10.0) -> re.Match[str]:
        """Wait until the board prints a line with ``pattern`` in it; each line is found once.

        Raises:
            NoAnswer: it does not within ``timeout_s``; the message shows its last lines.
        """
        return self.transcript.expect(pattern, timeout_s)

    def _ask(self, question: Callable[[SerialLink], Answer]) -> Answer:
        from handfast.boards.device_error import DeviceError

        link = self._repl()
        began = time.monotonic()
        try:
            answer = question(link)
            self.answers_ms.append([time.time(), (time.monotonic() - began) * 1000])
            return answer
        except DeviceError as error:
            self.transcript.add(error.traceback)
            raise
        except BoardProblem as error:
            self._state = "unknown"
            if self._cutting and self.bench.power_was_cut:
                raise PowerCut(f"{self.name} lost its power") from error
            raise

    # Reset and power

    def reset(self) -> None:
        """Press its reset button: the application starts again, the clock goes on."""
        self._restart(self.bench.reset)

    def power_cycle(self, *, rtc: int | None = None) -> None:
        """Take its power away and give it back: RAM and clock are lost.

        Args:
            rtc: what its clock then shows, in unix seconds (capability ``clock``).
        """
        self._restart(lambda: self.bench.power_cycle(rtc=rtc))

    def _restart(self, restart: Callable[[], None]) -> None:
        """Start it again, and listen from the first line on, or as soon as the line is back."""
        if self.bench.keeps_line:
            with suppress(BoardProblem):  # it may have no line because it needs a restart
                self._listen(NATIVE_BACK_S, now=True)
        else:
            self._let_go()
        restart()
        self._back_by = time.monotonic() + NATIVE_BACK_S
        if self.transcript.console is None:
            self._listen(NATIVE_BACK_S)
        self._state = "application"

    @contextmanager
    def power_cut(self, at: At = "any") -> Iterator[None]:
        """Let the power fail in the middle of a flash operation of the block; then give it back.

        What the block asks of the board ends where the power does. If it takes fewer flash
        operations than that, the power fails at its end. The board's application runs afterwards,
        and telemetry that arrived before the block no longer counts as new.

        Args:
            at: the flash operation in which it fails, from 0; ``"any"`` draws one, which the
                report names.
        """
        if "power_cut" not in self.capabilities:
            raise BoardProblem(f"{self.name} cannot have its power cut at a flash operation")
        after = self._random.randrange(_ANY) if at == "any" else at
        self.exec(f"import _sim\n_sim.cut_after({after})\ndel _sim")
        for gateway, device in self.devices:
            gateway.forget_telemetry(device)
        self._cutting = True
        try:
            with self._watching_the_power(), suppress(PowerCut):
                yield
        finally:
            where = "in" if self.bench.power_was_cut else "at the block's end, before"
            self.notes.append(f"the power failed {where} flash operation {after} (at={after})")
            self._cutting = False
            self.bench.power_off()
            self.power_cycle()

    @contextmanager
    def _watching_the_power(self) -> Iterator[None]:
        """End at once what waits for a board that has no power any more."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_POLL_S):
                if self.bench.power_was_cut and self._link is not None:
                    self._link.abandon()

        thread = threading.Thread(target=watch, name=f"power of {self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # The serial line

    def answers(self, timeout_s: float) -> bool:
        """Say whether it gives a prompt; a line that is away is waited for first."""
        from handfast.boards.serial_port import Unplugged

        try:
            self._stop_listening()
            try:
                self._open().interrupt(timeout_s=timeout_s)
            except Unplugged:  # only now it goes away, to come back
                self._open().interrupt(timeout_s=timeout_s)
        except BoardProblem as problem:
            self._state = "unknown"
            self.silence = str(problem)
            return False
        self.silence = ""
        self._state = "repl"
        return True

    def measure_heap(self) -> None:
        """Ask a board at its prompt how much of its heap the test has left."""
        with suppress(BoardProblem, ValueError):  # somebody else may print, too
            free = int(self._open().exec("import gc\ngc.collect()\nprint(gc.mem_free())"))
            self.heap_free.append([time.time(), float(free)])

    def overhear(self, seconds: float) -> None:
        """Keep what a board that gives no prompt prints by itself: a panic, boot after boot."""
        with suppress(BoardProblem):
            self._listen(0, now=True)
            time.sleep(seconds)
        self._stop_listening()

    def begin(self) -> None:
        """Begin a test: a board that nobody has used, and an empty transcript."""
        self._let_go()
        self.transcript = Transcript()
        self.devices, self.notes = [], []
        self.answers_ms, self.heap_free = [], []
        self.bench.renew()

    def rest(self) -> None:
        """Let go of its serial line; what it has said and done stays to be reported."""
        self._let_go()

    def close(self) -> None:
        """Let go of the board."""
        self._let_go()
        self.bench.close()

    @property
    def _back_within_s(self) -> float:
        """How long a line that is away may take to come back; one that was never there has none."""
        by_itself = 0.0 if self._link is None else self.bench.back_within_s
        return max(by_itself, self._back_by - time.monotonic())

    def _open(self, *, now: bool = False) -> SerialLink:
        """Open its line; one that has gone away since it was opened, when it is back.

        ``now``: it is there, or it is not.
        """
        from handfast.boards.serial_link import SerialLink

        back_within_s = 0.0 if now else self._back_within_s
        if self._link is None:
            self._link = SerialLink.open(
                lambda: self.serial_url,
                within_s=back_within_s,
                overheard=lambda text: self.transcript.add(text),
            )
        elif self._link.is_gone:
            self._stop_listening()
            self._state = "unknown"
            self._link.reopen(back_within_s)
        return self._link

    def _repl(self) -> SerialLink:
        """Return the link with a prompt at its end; an application is stopped for it."""
        link = self._open()
        self._stop_listening()
        if self._state != "repl":
            link.soft_reset()  # the application's objects would take up the heap
            self._state = "repl"
        return link

    def _listen(self, back_within_s: float, *, now: bool = False) -> None:
        self._stop_listening()
        link = self._open(now=now)
        self.transcript.follow(link.console(back_within_s=back_within_s))

    def _stop_listening(self) -> None:
        console = self.transcript.console
        if console is not None:
            console.close()
            self.transcript.unfollow()

    def _let_go(self) -> None:
        self._stop_listening()
        if self._link is not None:
            self._link.close()
            self._link = None
        self._state = "unknown"

    def _until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        give_up = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > give_up:
                last = "\n".join(f"  {entry.text}" for entry in self.transcript.entries[-12:])
                raise BoardProblem(f"{what} within {timeout_s:g} s; its last lines:\n{last}")
            time.sleep(_POLL_S)


def _project_files(folder: Path | None) -> dict[str, bytes]:
    """Return path on the board → content of the project's own files."""
    if folder is None or not folder.is_dir():
        return {}
    return {
        f"/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
