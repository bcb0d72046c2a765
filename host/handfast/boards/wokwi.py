"""Boards that Wokwi emulates in its cloud: one simulation each, on a PTY of this machine.

Files, reset and the serial line go over Wokwi's API by its own ``wokwi-client`` (the extra
``handfast[wokwi]``), which :mod:`handfast.boards.wokwi_session` alone knows. A board's folder has
the circuit (diagram.json) and what Wokwi's editors want to know too (wokwi.toml).
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.flash.firmware import fetch_firmware, local_firmware
from handfast.boards.virtual_board import VirtualBoard
from handfast.errors import BoardProblem, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from handfast.boards.wokwi_session import WokwiSession

TOKEN_VARIABLE = "WOKWI_CLI_TOKEN"  # noqa: S105 - the variable's name, which wokwi-client reads too
FIRMWARE_VARIABLE = "HANDFAST_WOKWI_FIRMWARE"
# The access point that Wokwi gives to every simulated board with a radio; it is open.
NETWORK = {"ssid": "Wokwi-GUEST", "password": ""}
_RESET_PART = "reset"  # the push-button's id in our diagrams


@dataclass(frozen=True, slots=True)
class WokwiProject:
    """A board's files for Wokwi: the circuit, and the name that its firmware goes by."""

    diagram: str
    firmware_name: str

    @property
    def has_reset_button(self) -> bool:
        """Whether the circuit has a button on the chip's reset pin."""
        parts: list[dict[str, Any]] = json.loads(self.diagram)["parts"]
        return any(part["id"] == _RESET_PART for part in parts)


def wokwi_board(name: str) -> BoardDefinition:
    """Return the definition of a board that Wokwi emulates.

    Raises:
        UsageError: there is no such board, or Wokwi does not emulate it.
    """
    definition = load_board(name)
    if not is_wokwi_board(definition):
        raise UsageError(f"{name} is not a board that Wokwi emulates: its folder has no wokwi.toml")
    return definition


def is_wokwi_board(definition: BoardDefinition) -> bool:
    """Say whether a board's folder describes it to Wokwi."""
    return definition.kind == "emulated" and (definition.folder / "wokwi.toml").is_file()


def read_project(definition: BoardDefinition) -> WokwiProject:
    """Read a board's diagram.json and wokwi.toml.

    Raises:
        UsageError: one of them is missing, or not what Wokwi takes.
    """
    folder = definition.folder
    try:
        diagram = (folder / "diagram.json").read_text(encoding="utf-8")
        json.loads(diagram)
        settings = tomllib.loads((folder / "wokwi.toml").read_text(encoding="utf-8"))
        name = settings["wokwi"]["firmware"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder}: diagram.json or wokwi.toml cannot be used: {error}") from error
    return WokwiProject(diagram, str(name))


def flash_content(definition: BoardDefinition, firmware: Path) -> bytes:
    """Return what Wokwi is given as firmware: a UF2 file as it is, for an ESP32 the whole flash.

    Raises:
        Refused: the file is not for this board.
        EnvironmentProblem: it cannot be read.
    """
    loader = definition.flash.loader if definition.flash else None
    if loader is not None and loader.kind == "esptool":
        from handfast.boards.flash.flash_image import whole_flash  # esptool takes a while to import

        return whole_flash(definition, firmware)
    try:
        return firmware.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"{firmware} cannot be read: {error.strerror}") from error


def find_firmware(definition: BoardDefinition, firmware: Path | None) -> Path:
    """Return the MicroPython image: the one that is given or set, else the official download.

    Raises:
        Refused: it has another SHA-256 than board.toml records.
        Unreachable, EnvironmentProblem: it is not to be had.
    """
    chosen = firmware or Path(os.environ.get(FIRMWARE_VARIABLE, ""))
    if chosen != Path():
        return local_firmware(chosen).path
    recorded = definition.firmware
    if recorded is None or recorded.url is None:
        raise EnvironmentProblem(f"{definition.name}: give a firmware file; board.toml has no URL")
    return fetch_firmware(recorded.url, sha256=recorded.sha256).path


def find_token(token: str | None = None) -> str:
    """Return the token of the user's Wokwi account.

    Raises:
        EnvironmentProblem: none is set.
    """
    found = token or os.environ.get(TOKEN_VARIABLE, "")
    if not found:
        raise EnvironmentProblem(
            "Wokwi needs a token: make one at https://wokwi.com/dashboard/ci "
            f"and set {TOKEN_VARIABLE}"
        )
    return found


class WokwiBoard(VirtualBoard):
    """A board in Wokwi's cloud; see :class:`VirtualBoard`.

    A simulation is the board's power: ending it loses all that it held, its flash too.

    Args:
        profile: the board's definition, such as ``wokwi-esp32``.
        directory: where Wokwi's messages would be kept; made if it is not there.
        name: in messages; the folder's name by default.
        firmware: the user's own MicroPython image; else that of ``HANDFAST_WOKWI_FIRMWARE``, else
            the official one, downloaded.
        token: of the Wokwi account; else ``WOKWI_CLI_TOKEN``.
        server: the API's WebSocket address; else ``WOKWI_CLI_SERVER``, else Wokwi's own.

    Raises:
        UsageError: not a board of Wokwi's.
        EnvironmentProblem: no token, no firmware, or wokwi-client is not installed.
        Refused: the firmware is not for this board.
    """

    def __init__(
        self,
        profile: str = "wokwi-esp32",
        *,
        directory: Path,
        name: str | None = None,
        firmware: Path | None = None,
        token: str | None = None,
        server: str | None = None,
    ) -> None:
        definition = wokwi_board(profile)
        self.project = read_project(definition)
        self._token = find_token(token)
        self._server = server
        _require_client()
        self._flash = flash_content(definition, find_firmware(definition, firmware))
        self._session: WokwiSession | None = None
        super().__init__(definition, directory=directory, name=name)

    @property
    def is_running(self) -> bool:
        """Whether the simulation runs, as far as is known here."""
        return self._session is not None and self._session.is_alive

    def _start(self, cut_after: int | None, torn: bool) -> None:
        """Begin a simulation: the flash holds the firmware and nothing else.

        Raises:
            BoardProblem: Wokwi did not start it.
            Refused: Wokwi does not take the token.
            Unreachable: Wokwi does not answer.
        """
        from handfast.boards.wokwi_session import WokwiSession

        del torn
        if cut_after is not None or self._rtc is not None:
            raise BoardProblem(f"board {self.name}: Wokwi neither cuts power nor sets a clock")
        session = WokwiSession(self._token, self._server, self._master)
        try:
            session.start(
                diagram=self.project.diagram,
                firmware_name=self.project.firmware_name,
                firmware=self._flash,
            )
        except BaseException:
            session.close()
            raise
        self._session = session

    def _let_go(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _press_reset(self) -> None:
        """Press the button on the chip's reset pin; where there is none, begin again."""
        session = self._running_session()
        if self.project.has_reset_button:
            session.press(_RESET_PART)
        else:
            session.restart()

    def upload(self, name: str, content: bytes) -> None:
        """Give a file to the running simulation, under a name without folders."""
        self._running_session().upload(name, content)

    def download(self, name: str) -> bytes:
        """Return a file of the running simulation."""
        return self._running_session().download(name)

    def _running_session(self) -> WokwiSession:
        if self._session is None or not self._session.is_alive:
            raise BoardProblem(f"board {self.name} is switched off")
        return self._session


def _require_client() -> None:
    try:
        import wokwi_client  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            "boards of Wokwi's need its client: pip install 'handfast[wokwi]'"
        ) from error


def why_missing() -> str:
    """Say what Wokwi's boards cannot run for here; "" where nothing is missing."""
    try:
        find_token()
        _require_client()
    except EnvironmentProblem as problem:
        return str(problem)
    return ""
