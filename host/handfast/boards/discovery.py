"""Finds the boards on this machine's serial ports, and gives each a name that stays.

USB ids say which ports may be a board's; what it is, and its name, only MicroPython on it can say:
all boards of one port of MicroPython share their ids, and a bridge has the bridge's serial number.
The name is made of the definition's and of ``machine.unique_id()``, in the digits that boards with
their own USB show as their USB serial number. It stays whatever the port is called, and across
cables, hubs and bridges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from handfast.boards.definition import BoardDefinition
from handfast.boards.identify import BoardFacts, identify
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer, PortBusy
from handfast.errors import BoardProblem, HandfastError

TIMEOUT_S = 3.0

_AT_ONCE = 16
_RESTART_S = 2.0
_ADD = "add a board.toml for it (docs/how-to/add-a-board.md)"

# A board is "found" when it said what it is; those from "bootloader" on were not asked.
State = Literal[
    "found", "unknown", "silent", "busy", "failed", "bootloader", "foreign", "csr", "listed"
]


class PortInfo(Protocol):
    """What is used of pyserial's ``ListPortInfo``; ``vid`` is None for what is not on USB."""

    device: str
    vid: int | None
    pid: int | None
    serial_number: str | None
    location: str | None


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port of this machine; ``usb`` is (vendor, product), None where it is not on USB.

    ``location`` is the USB socket that it is at, through all hubs, where the system says so.
    """

    url: str
    usb: tuple[int, int] | None = None
    usb_serial: str | None = None
    location: str | None = None

    @classmethod
    def of(cls, info: PortInfo) -> Port:
        """Return the port that pyserial describes by ``info``."""
        usb = None if info.vid is None or info.pid is None else (info.vid, info.pid)
        return cls(info.device, usb, info.serial_number, info.location)


@dataclass(frozen=True, slots=True)
class Found:
    """What came out for one port; ``problem`` says in words why it is not a board with a name.

    ``candidates`` are the boards that the USB ids leave; ``board`` and ``name`` are what it is.
    """

    port: Port
    state: State
    candidates: tuple[str, ...] = ()
    board: str | None = None
    name: str | None = None
    build: str | None = None
    micropython: str | None = None
    device_id: str | None = None
    problem: str | None = None


def place(port: Port, boards: Sequence[BoardDefinition]) -> Found:
    """Say what the USB ids alone say of a port: ``listed`` is one that may be asked."""
    runs = _with_ids(port, boards, bootloader=False)
    boots = _with_ids(port, boards, bootloader=True)
    if sketches := [board.name for board in boards if board.name in runs and board.csr is not None]:
        problem = f"it has no MicroPython: `handfast enrol --serial {port.url}` is for it"
        return Found(port, "csr", tuple(sketches), problem=problem)
    if port.usb is None or runs:
        return Found(port, "listed", runs)
    if boots:
        problem = "its bootloader runs, not MicroPython: flash it, or press its reset button"
        return Found(port, "bootloader", boots, problem=problem)
    return Found(port, "foreign", problem="no board.toml has its USB ids: not asked")


def _with_ids(
    port: Port, boards: Sequence[BoardDefinition], *, bootloader: bool
) -> tuple[str, ...]:
    return tuple(
        board.name
        for board in boards
        if board.usb is not None
        and port.usb in (board.usb.bootloader_ids if bootloader else board.usb.ids)
    )


def recognise(build: str, boards: Sequence[BoardDefinition]) -> str | None:
    """Return the board whose firmware calls itself ``build``, or None.

    A variant's build is called ``BOARD-VARIANT`` (MicroPython, py/mkrules.cmake); a definition of
    just that variant comes first.
    """
    # An emulated board may run the image of the real one: what is plugged in is the real one.
    real_first = sorted(boards, key=lambda board: board.kind != "hardware")
    for wanted in (build, build.partition("-")[0]):
        for board in real_first:
            if board.firmware is not None and board.firmware.build == wanted:
                return board.name
    return None


def stable_name(board: str, hardware_id: str) -> str:
    """Return the name of one physical board, such as ``pico-w@E6614C311B7E6F35``."""
    return f"{board}@{hardware_id.upper()}"


def ask(found: Found, boards: Sequence[BoardDefinition], *, timeout_s: float = TIMEOUT_S) -> Found:
    """Ask what is on a listed port what it is, for at most ``timeout_s`` until it listens.

    What the board was doing is stopped; it is restarted afterwards, so that its application runs.
    """
    try:
        with SerialLink.open(found.port.url) as link:
            link.interrupt(timeout_s=timeout_s)
            facts = identify(link)
            _restart(link)
    except PortBusy as error:
        return replace(found, state="busy", problem=str(error))
    except NoAnswer as error:
        return replace(found, state="silent", problem=str(error))
    except HandfastError as error:
        return replace(found, state="failed", problem=str(error))
    return _identified(found, facts, boards)


def _identified(found: Found, facts: BoardFacts, boards: Sequence[BoardDefinition]) -> Found:
    device_id = facts.config.get("device_id")
    told = replace(
        found,
        build=facts.build,
        micropython=".".join(map(str, facts.version)),
        device_id=device_id if isinstance(device_id, str) else None,
    )
    board = recognise(facts.build, boards)
    if board is None:
        problem = f"no board.toml has the build {facts.build!r}: {_ADD}"
        return replace(told, state="unknown", problem=problem)
    name = stable_name(board, facts.hardware_id)
    return replace(told, state="found", board=board, name=name)


def _restart(link: SerialLink) -> None:
    try:
        link.soft_reset(run_main=True, timeout_s=_RESTART_S)
    except BoardProblem:
        return  # what it is, it has said; that it starts slowly is not this question's


def scan(
    ports: Iterable[Port], boards: Sequence[BoardDefinition], *, timeout_s: float = TIMEOUT_S
) -> list[Found]:
    """Say what is on every port, in the order of ``ports``; those that may be asked are, at once.

    Args:
        ports: the ports; one without USB ids is asked, so only give those that are meant.
        boards: the definitions to know boards by.
        timeout_s: how long a port may keep silent.
    """
    placed = [place(port, boards) for port in ports]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = pool.map(
            lambda found: (
                ask(found, boards, timeout_s=timeout_s) if found.state == "listed" else found
            ),
            placed,
        )
        return list(asked)


def find(
    name: str,
    ports: Iterable[Port],
    boards: Sequence[BoardDefinition],
    *,
    timeout_s: float = TIMEOUT_S,
) -> Port:
    """Return the port that the board called ``name`` is on now.

    A port whose USB serial number is in the name is asked alone, so that no other is disturbed.

    Raises:
        BoardProblem: no such board is on any port; the message says what was found instead.
    """
    ports = list(ports)
    board, _, hardware_id = name.rpartition("@")
    name = stable_name(board, hardware_id)
    own = [port for port in ports if shows(port, hardware_id)]
    seen = scan(own, boards, timeout_s=timeout_s)
    if not any(found.name == name for found in seen):
        seen += scan((port for port in ports if port not in own), boards, timeout_s=timeout_s)
    for found in seen:
        if found.name == name:
            return found.port
    raise no_such_board(name, seen)


def no_such_board(name: str, seen: Iterable[Found]) -> BoardProblem:
    """Return the error that says what was found in place of the board called ``name``."""
    others = ", ".join(f"{found.name or found.state} at {found.port.url}" for found in seen)
    return BoardProblem(
        f"there is no board {name}: plug it in; found: {others or 'no board'} "
        "(`handfast board scan` says more)"
    )


def shows(port: Port, hardware_id: str) -> bool:
    """Say whether it is a board's own USB, with the board's id as its USB serial number.

    Espressif's USB-Serial-JTAG shows the MAC address with colons (ESP-IDF, usb_serial_jtag).
    """
    return (port.usb_serial or "").replace(":", "").upper() == hardware_id.upper()


def port_now(port: Port, hardware_id: str, ports: Iterable[Port]) -> str:
    """Return the URL of a board that has restarted, whose port may have another number now.

    Only a board's own USB shows ``hardware_id`` as its serial number; a bridge stays what it was.
    """
    if shows(port, hardware_id):
        for other in ports:
            if other.usb_serial == port.usb_serial:
                return other.url
    return port.url
