"""The boards that are processes on this machine, simulated and emulated, by name."""

from __future__ import annotations

from pathlib import Path

from handfast.boards.builder import build_simulator
from handfast.boards.definition import list_boards, load_board
from handfast.boards.esp32_qemu import BOARD as ESP32_QEMU
from handfast.boards.esp32_qemu import Esp32QemuBoard
from handfast.boards.esp32_qemu import why_missing as why_no_esp32_qemu
from handfast.boards.qemu_mps2 import QemuMps2Board
from handfast.boards.qemu_mps2_build import BOARD as QEMU_MPS2
from handfast.boards.qemu_mps2_build import build_qemu_mps2
from handfast.boards.rp2040 import EmulatedRp2040
from handfast.boards.rp2040_build import BOARD as RP2040
from handfast.boards.rp2040_build import build_emulator, build_firmware
from handfast.boards.simulator import SimulatedBoard, simulated_board
from handfast.boards.slirp import why_missing as why_no_slirp
from handfast.boards.sources import Progress
from handfast.boards.virtual_board import Entropy, VirtualBoard
from handfast.boards.wokwi import WokwiBoard, is_wokwi_board
from handfast.boards.wokwi import why_missing as why_no_wokwi
from handfast.errors import EnvironmentProblem, UsageError

_EMULATED_PACE = 3
_PACES = {RP2040: 6}  # its handshake takes 5 to 8 s on an idle machine


def virtual_boards() -> list[str]:
    """Return the names of the boards that :func:`virtual_board` makes."""
    own_firmware = [name for name in list_boards(kind="emulated") if _is_users(name)]
    return [*list_boards(kind="simulated"), QEMU_MPS2, RP2040, *own_firmware]


def why_missing(profile: str) -> str:
    """Say what a virtual board cannot run for on this machine; "" where nothing is missing.

    What can be built or installed on the way is not missing.
    """
    if profile not in virtual_boards():
        return f"{profile} is no board of the pytest plugin's: it has tests of its own"
    if profile == ESP32_QEMU:
        return why_no_esp32_qemu()
    if profile == RP2040:
        return why_no_slirp()
    return why_no_wokwi() if is_wokwi_board(load_board(profile)) else ""


def _is_users(profile: str) -> bool:
    """Say whether the user brings a board's emulator and firmware."""
    return profile == ESP32_QEMU or is_wokwi_board(load_board(profile))


def build_virtual_board(profile: str, *, progress: Progress = lambda _: None) -> None:
    """Build what a board's process runs, if it is not in the cache.

    Raises:
        UsageError: there is no such virtual board.
        EnvironmentProblem: it cannot be built, or something is missing that it runs in.
    """
    if profile == QEMU_MPS2:
        build_qemu_mps2(progress=progress)
    elif profile == RP2040:
        build_emulator(progress=progress)
        build_firmware(progress=progress)
    elif _is_users(profile):
        if reason := why_missing(profile):
            raise EnvironmentProblem(reason)
    else:
        build_simulator(simulated_board(profile).name, progress=progress)


def virtual_board(
    profile: str, *, directory: Path, name: str | None = None, entropy: Entropy = "host"
) -> VirtualBoard:
    """Make a board, switched off; the arguments are those of :class:`VirtualBoard`.

    Raises:
        UsageError: there is no such virtual board.
        EnvironmentProblem: it cannot be built, or something is missing that it runs in.
    """
    if profile == QEMU_MPS2:
        return QemuMps2Board(directory=directory, name=name, entropy=entropy)
    if profile == RP2040:
        return EmulatedRp2040(
            directory=directory, name=name, entropy=entropy, firmware=build_firmware()
        )
    if _is_users(profile):
        if entropy != "host":
            raise UsageError(f"{profile} has the random source of its own emulator")
        if profile == ESP32_QEMU:
            return Esp32QemuBoard(directory=directory, name=name)
        return WokwiBoard(profile, directory=directory, name=name)
    return SimulatedBoard(profile, directory=directory, name=name, entropy=entropy)


def pace(profile: str) -> int:
    """Return how many times as much as a simulated board this one is given for what it does.

    An emulator executes a chip's instructions one by one; a simulated board's are the host's.
    """
    return _PACES.get(profile, _EMULATED_PACE) if load_board(profile).emulator else 1


def boards_at(profile: str) -> str:
    """Return this machine's address in a board's network; "" where that is this machine's own."""
    emulator = load_board(profile).emulator
    return emulator.host if emulator else ""
