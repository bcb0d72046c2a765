"""A provisioned board under a real gateway, and what tests do to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from handfast.admin_client import AdminClient
from handfast.boards import device_library
from handfast.boards.console import Console, Event
from handfast.boards.device_code import Compact
from handfast.boards.provision import provision
from handfast.boards.qemu_mps2 import QemuMps2Board
from handfast.boards.qemu_mps2_build import BOARD as QEMU_MPS2
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.boards.virtual_board import VirtualBoard
from handfast.resources import firmware_dir

DEADLINE_S = 30.0
# What the tests run on that ask whether a board, of whatever kind, does what it must.
BOARDS = ("sim-pico-w", QEMU_MPS2)
# Both profiles, with both of the MicroPython versions that the library is for.
SIMULATED = ("sim-pico-w", "sim-esp32", "sim-pico-w+1.25.0", "sim-esp32+1.25.0")


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


def give_long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have boards given bytecode as always, but with the names that are in the source.

    For tests that look into the library by its own names.
    """
    texts = {path.stem: path.read_text("utf-8") for path in (firmware_dir() / "mtls").glob("*.py")}
    monkeypatch.setattr(device_library, "_compact_library", lambda: Compact(texts, {}))
    monkeypatch.setattr(device_library, "_pack", lambda *_: {})


class Rig:
    """One board: `start` powers it on with its console read, `stop` takes the power away."""

    def __init__(self, board: VirtualBoard, gateway: AdminClient) -> None:
        self.board = board
        self.gateway = gateway
        self.device_id = board.name
        self._link: SerialLink | None = None
        self._console: Console | None = None

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.board.close()

    def provision(
        self,
        *,
        token: bool = True,
        files: dict[str, bytes] | None = None,
        code: str = "",
        secure_element: dict[str, Any] | None = None,
    ) -> str:
        """Provision the board and leave it switched off; returns what ``code`` printed.

        ``code`` is run and ``files`` are pushed before the application has had a chance to start.
        """
        self.board.power_on()
        provision(
            self.board.serial_url,
            gateway=self.gateway,
            device_id=self.device_id,
            telemetry_interval_s=1,
            secure_element=secure_element,
            token=token,
            start=False,
        )
        with SerialLink.open(self.board.serial_url) as link:
            printed = link.exec(code, timeout_s=DEADLINE_S)
            if files:
                link.push(files)
        self.board.power_off()
        return printed

    def repl(self, code: str) -> str:
        """Interrupt the application as it starts, run code, and leave the board switched off."""
        with self.prompt() as run:
            return run(code)

    @contextmanager
    def prompt(self) -> Iterator[Callable[[str], str]]:
        """Interrupt the application as it starts; what is yielded runs code, all in one boot.

        It returns what the code printed; the names that it gave are there for the next. The board
        is switched off at the end.
        """
        self.board.power_on()
        with SerialLink.open(self.board.serial_url) as link:
            link.soft_reset()
            yield partial(link.exec, timeout_s=DEADLINE_S)
        self.board.power_off()

    def push(self, files: dict[str, bytes]) -> None:
        self.board.power_on()
        with SerialLink.open(self.board.serial_url) as link:
            link.soft_reset()
            link.push(files)
        self.board.power_off()

    def start(self, *, rtc: int | None = None, cut_after: int | None = None) -> Console:
        link = SerialLink.open(self.board.serial_url)
        self._link = link
        self._console = link.console()
        self.board.power_on(rtc=rtc, cut_after=cut_after)
        return self._console

    def stop(self) -> None:
        """Take the power away, and the reader of its console."""
        self.board.power_off()
        if self._console is not None:
            self._console.close()
        if self._link is not None:
            self._link.close()
        self._console = self._link = None

    @property
    def console(self) -> Console:
        assert self._console is not None
        return self._console

    def event(
        self, name: str, *, after: int = 0, timeout_s: float = DEADLINE_S, **fields: str
    ) -> Event:
        return self.console.wait_for_event(
            name,
            timeout_s,
            after=after,
            where=lambda event: all(event.fields.get(k) == v for k, v in fields.items()),
        )

    def acknowledged(self) -> list[tuple[str, int]]:
        """(boot_id, seq) of each report that the application saw acknowledged, in order."""
        boots = self.console.events("boot")
        boot_id = boots[-1].fields["boot_id"]
        return [(boot_id, int(e.fields["seq"])) for e in self.console.events("telemetry")]

    def stored(self) -> list[tuple[str, int]]:
        rows = self.gateway.telemetry(self.device_id)
        return [(row["boot_id"], row["seq"]) for row in rows]


def profile_and_version(kind: str) -> tuple[str, str | None]:
    """Split what SIMULATED has; None is the version of MicroPython that the profile names."""
    profile, _, version = kind.partition("+")
    return profile, version or None


def make_rig(
    folder: Path,
    name: str,
    gateway: AdminClient,
    profile: str = "sim-pico-w",
    **of_board: Any,
) -> Rig:
    if profile == QEMU_MPS2:
        return Rig(QemuMps2Board(directory=folder, name=name, **of_board), gateway)
    profile, version = profile_and_version(profile)
    board = SimulatedBoard(profile, directory=folder, name=name, micropython=version, **of_board)
    return Rig(board, gateway)
