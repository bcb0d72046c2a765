"""labgrid's driver for a board that runs MicroPython, over any serial line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attr
from labgrid.driver.commandmixin import CommandMixin
from labgrid.driver.common import Driver
from labgrid.factory import target_factory
from labgrid.protocol import CommandProtocol
from labgrid.step import step

from handfast.boards.device_error import DeviceError
from handfast.boards.device_files import PushResult
from handfast.boards.serial_link import SerialLink
from handfast.lab.labgrid.resources import serial_url


@target_factory.reg_driver
@attr.s(eq=False)
class MicroPythonDriver(CommandMixin, Driver, CommandProtocol):
    """Runs code on a board through its REPL; a command is a piece of Python.

    The line is open only while it is used: flashing and consoles take turns with this driver.

    Args:
        board (str): the board's definition, such as ``pico-w``; "" where none fits
    """

    bindings = {"port": {"SerialPort", "NetworkSerialPort", "SimulatedBoardDriver"}}  # noqa: RUF012
    board: str = attr.ib(default="", validator=attr.validators.instance_of(str))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.url = ""

    def on_activate(self) -> None:
        """Find out where the line is: an exporter gives it a new port each time."""
        self.url = self.port.url if isinstance(self.port, Driver) else serial_url(self.port)

    def on_deactivate(self) -> None:
        """Forget where it was."""
        self.url = ""

    @Driver.check_active
    def link(self) -> SerialLink:
        """Open the line; the caller closes it.

        Raises:
            BoardProblem, EnvironmentProblem: see :meth:`SerialLink.open`.
        """
        return SerialLink.open(self.url)

    @Driver.check_active
    @step()  # not its text: it may hold a password
    def exec(self, code: str, *, timeout_s: float = 10.0) -> str:
        """Run ``code`` and return what it printed; a running application is stopped.

        Raises:
            DeviceError: it raised.
            BoardProblem: the board does not answer.
        """
        link: SerialLink
        with self.link() as link:
            return link.exec(code, timeout_s)

    @Driver.check_active
    @step(args=["function"])
    def call(self, function: str, *arguments: Any, timeout_s: float = 10.0) -> Any:
        """Call ``"module.function"`` and return its value; see :meth:`SerialLink.call`."""
        with self.link() as link:
            return link.call(function, *arguments, timeout_s=timeout_s)

    @Driver.check_active
    @step()
    def push(self, files: Mapping[str, bytes]) -> PushResult:
        """Write those of ``files`` that differ; see :meth:`SerialLink.push`."""
        link: SerialLink
        with self.link() as link:
            return link.push(files)

    # labgrid's CommandProtocol

    def _run(
        self, cmd: str, *, timeout: float = 30.0, codec: str = "utf-8", decodeerrors: str = "strict"
    ) -> tuple[list[str], list[str], int]:
        del codec, decodeerrors  # the link decodes
        with self.link() as link:
            try:
                return link.exec(cmd, timeout).splitlines(), [], 0
            except DeviceError as error:
                return [], error.traceback.splitlines(), 1

    @Driver.check_active
    @step()
    def run(
        self, cmd: str, *, timeout: float = 30.0, codec: str = "utf-8", decodeerrors: str = "strict"
    ) -> tuple[list[str], list[str], int]:
        """Run code; return the lines it printed, those of its traceback, and 0 or 1."""
        return self._run(cmd, timeout=timeout, codec=codec, decodeerrors=decodeerrors)

    def get_status(self) -> int:
        """Return 1: there is nothing to log in to."""
        return 1
