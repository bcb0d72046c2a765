"""What tests of esp32-qemu start from: an image, a model of the emulator, its UART1."""

from __future__ import annotations

import builtins
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import esp32_network_model
import pytest

from handfast.boards import slirp
from handfast.boards.builder import build_simulator
from handfast.boards.esp32_qemu import (
    BOARD,
    EMULATOR_VARIABLE,
    FIRMWARE_VARIABLE,
    NETWORK_VARIABLE,
    why_missing,
)
from handfast.resources import boards_dir
from ppp_client_model import DEADLINE_S, PppClientModel

MODEL = Path(__file__).with_name("qemu_xtensa_model.py")
NETWORK_MODEL = Path(esp32_network_model.__file__)
UPLINK = boards_dir() / "esp32-qemu" / "uplink.py"


def esp_image(chip_id: int = 0, size: int = 20_001) -> bytes:
    header = struct.pack("<BBBBI4sHB", 0xE9, 1, 2, 0x20, 0x40080000, bytes(4), chip_id, 0)
    return header + bytes(range(256)) * (size // 256) + b"\x01\x02\x03"


def skip_where_left_out(*, by_ppp: bool = False) -> None:
    """Skip a test that takes the user's own emulator, with the reason.

    Each reason has the same beginning, by which tests/allowed_skips.txt knows it.
    """
    if reason := why_missing() or (slirp.why_missing() if by_ppp else ""):
        pytest.skip(f"{BOARD} is left out: {reason}")


class Installed:
    """A model of QEMU as a program, of a build that is told apart by what it knows."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        for variable in (NETWORK_VARIABLE, FIRMWARE_VARIABLE):
            monkeypatch.delenv(variable, raising=False)

    def __call__(self, build: str) -> Path:
        program = self._folder / "qemu-system-xtensa"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{MODEL}" "$@"\n')
        program.chmod(0o755)
        self._monkeypatch.setenv("QEMU_XTENSA_MODEL_BUILD", build)
        self._monkeypatch.setenv("QEMU_XTENSA_MODEL_CHIP", str(build_simulator("sim-esp32")))
        self._monkeypatch.setenv(EMULATOR_VARIABLE, str(program))
        return program

    @contextmanager
    def lends_uart1(self) -> Iterator[Uart1]:
        """Have the model hand UART1 to whoever plays the program on the chip."""
        with tempfile.TemporaryDirectory(
            prefix="uart1-"
        ) as folder:  # a short path, as sockets want
            place = Path(folder) / "uart1"
            self._monkeypatch.setenv("QEMU_XTENSA_MODEL_UART1", str(place))
            with socket.socket(socket.AF_UNIX) as listener:
                listener.settimeout(DEADLINE_S)
                listener.bind(str(place))
                listener.listen()
                yield Uart1(listener)


class Uart1:
    """Where the model of QEMU hands over UART1, at each start from flash."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def take(self) -> socket.socket:
        """Return UART1 of the chip that starts, or has started."""
        connection, _ = self._listener.accept()
        with connection:
            _, (handle,), _, _ = socket.recv_fds(connection, 1, 1)
        return socket.socket(fileno=handle)


class SocketLink:
    """What lwIP makes of a socket's octets, as esp32_network_model wants it."""

    error = 0

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.client = PppClientModel(line.sendall)

    @property
    def is_up(self) -> bool:
        return self.client.is_up

    @property
    def settings(self) -> tuple[str, ...]:
        return (socket.inet_ntoa(self.client.address),)

    def connect(self) -> None:
        self.client.connect()

    def poll(self) -> None:
        self._line.settimeout(0)
        try:
            octets = self._line.recv(4096)
        except BlockingIOError:
            return
        assert octets, "the line was hung up"
        self.client.receive(octets)

    def close(self) -> None:
        pass


def uplink_on(line: socket.socket) -> tuple[Any, list[SocketLink]]:
    """Return the board's module, as the chip would run it with UART1 on a socket, and its links."""
    made: list[SocketLink] = []

    def link() -> SocketLink:
        made.append(SocketLink(line))
        return made[-1]

    esp32_network_model.links.clear()
    esp32_network_model.links[1] = link
    of_the_chip: dict[str, object] = {
        "network": esp32_network_model,
        "machine": esp32_network_model,
        "micropython": SimpleNamespace(const=lambda value: value),
        "time": SimpleNamespace(
            ticks_ms=lambda: int(time.monotonic() * 1000),
            ticks_diff=lambda end, start: end - start,
            sleep_ms=lambda ms: time.sleep(ms / 1000),
        ),
    }

    def imported(name: str, *rest: Any) -> object:
        return of_the_chip[name] if name in of_the_chip else builtins.__import__(name, *rest)

    module = ModuleType("uplink")
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": imported}
    exec(compile(UPLINK.read_text(), UPLINK, "exec"), module.__dict__)  # noqa: S102
    return module, made


def with_silent_slirp(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a slirp on the PATH that carries nothing: links come up, and that is all."""
    program = folder / "slirp-fullbolt"
    program.write_text(f'#!/bin/sh\nexec "{shutil.which("sleep")}" 600\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
