"""labgrid's drivers that put firmware on boards: esptool, and a Pico's BOOTSEL."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import attr
from labgrid.driver.common import Driver
from labgrid.driver.exception import ExecutionError
from labgrid.factory import target_factory
from labgrid.protocol import BootstrapProtocol
from labgrid.resource.common import NetworkResource
from labgrid.step import step
from labgrid.util.managedfile import ManagedFile

from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.flash.esp import EspFlashed
from handfast.boards.flash.firmware import Firmware, local_firmware
from handfast.boards.flash.flash_board import Options, flash_board, loader_of
from handfast.boards.flash.pico import PicoFlashed
from handfast.boards.flash.uf2 import read_uf2
from handfast.errors import BoardProblem, EnvironmentProblem, UsageError
from handfast.lab.labgrid.resources import serial_url

_REMOTE_S = 300.0


@attr.s(eq=False)
class _FlashDriver(Driver, BootstrapProtocol):
    """What both kinds have: a serial line, the board that is at its end, and a default image.

    Args:
        board (str): the board's definition, such as ``pico-w``
        image (str): the key in the environment's ``images:`` of the firmware
        sha256 (str): what the firmware's SHA-256 must be; "" where nobody knows
    """

    bindings = {"port": {"SerialPort", "NetworkSerialPort"}}  # noqa: RUF012
    board: str = attr.ib(validator=attr.validators.instance_of(str))
    image: str = attr.ib(default="firmware", validator=attr.validators.instance_of(str))
    sha256: str = attr.ib(default="", validator=attr.validators.instance_of(str))

    def _definition(self, loader: str, other: str) -> BoardDefinition:
        """Return the board's definition, refused where another driver is for its loader."""
        board = load_board(self.board)
        if (found := loader_of(board).kind) != loader:
            raise UsageError(f"{self.board} is flashed by {found}: take {other} for it")
        return board

    def _firmware(self, filename: str | None) -> Firmware:
        """Return the firmware's file, checked where its hash is known."""
        if filename is None:
            if self.target.env is None:
                raise UsageError(f"{self.display_name} has no environment: name the firmware")
            try:
                filename = self.target.env.config.get_image_path(self.image)
            except KeyError as error:
                raise UsageError(f"the environment has no images: {self.image}") from error
        return local_firmware(Path(str(filename)), sha256=self.sha256 or None)


@target_factory.reg_driver
@attr.s(eq=False)
class EspFlashDriver(_FlashDriver):
    """Flashes an ESP32 over its serial line; the exporter's must be RFC 2217, for DTR and RTS.

    Args:
        before (str): how the chip gets to its bootloader (see ``handfast board flash --help``)
        baudrate (int): for the transfer
        stub (bool): use esptool's flasher stub
    """

    before: str = attr.ib(default="default-reset", validator=attr.validators.instance_of(str))
    after: str = attr.ib(default="hard-reset", validator=attr.validators.instance_of(str))
    baudrate: int = attr.ib(default=460800, validator=attr.validators.instance_of(int))
    stub: bool = attr.ib(default=True, validator=attr.validators.instance_of(bool))

    @Driver.check_active
    @step(args=["filename"])
    def load(self, filename: str | None = None) -> EspFlashed | PicoFlashed:
        """Write the firmware, compare it there, and start it; see :func:`flash_board`."""
        board = self._definition("esptool", "PicoBootDriver")
        before: Any = self.before
        after: Any = self.after
        options = Options(before=before, after=after, stub=self.stub, baudrate=self.baudrate)
        port = serial_url(self.port)
        return flash_board(board, self._firmware(filename), port=port, options=options)


@target_factory.reg_driver
@attr.s(eq=False)
class PicoBootDriver(_FlashDriver):
    """Brings a Pico to BOOTSEL and copies a UF2 file to its drive.

    The drive is where the board is plugged in: for an exporter's board the file is copied there
    by SSH, as labgrid does, and ``handfast board flash`` is run there (``tools: handfast:``).
    """

    @Driver.check_active
    @step(args=["filename"])
    def load(self, filename: str | None = None) -> EspFlashed | PicoFlashed | None:
        """Write the firmware and see the board restart; see :func:`flash_board`."""
        board = self._definition("uf2", "EspFlashDriver")
        firmware = self._firmware(filename)
        if isinstance(self.port, NetworkResource):
            read_uf2(firmware.path.read_bytes(), source=str(firmware.path))
            self._load_there(firmware.path)
            return None
        return flash_board(board, firmware, port=serial_url(self.port))

    def _load_there(self, path: Path) -> None:
        line = getattr(self.port, "extra", {}).get("path")
        if not line:
            raise UsageError(
                f"the exporter of {self.port.display_name} does not say where the board is plugged "
                "in: export it as USBSerialPort, or flash it by hand"
            )
        tool = (
            "handfast" if self.target.env is None else self.target.env.config.get_tool("handfast")
        )
        try:
            copy = ManagedFile(path, self.port)
            copy.sync_to_resource()
            command = [tool, "board", "flash", "--board", self.board, "--port", line, "--no-check"]
            command += ["--firmware", copy.get_remote_path(), "--json"]
            there = self.port.wrap_command(command)
        except (ExecutionError, OSError, subprocess.SubprocessError) as error:
            raise EnvironmentProblem(
                f"{path} was not brought to {self.port.host} by SSH: {error}"
            ) from error
        _run(there)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_REMOTE_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BoardProblem(
            f"{shlex.join(command)} did not end within {_REMOTE_S:g} s: see to the board there"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BoardProblem(f"the board was not flashed: {said[-1] if said else 'no reason given'}")
