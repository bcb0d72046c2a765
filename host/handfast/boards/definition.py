"""What a board is: ``boards/<name>/board.toml``, read and checked.

The keys are explained in docs/reference/board-toml.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from handfast.boards.toml_table import TomlTable
from handfast.errors import UsageError
from handfast.resources import boards_dir

SCHEMA = 1
FOLDERS_VARIABLE = "HANDFAST_BOARDS"  # folders of boards that handfast does not come with

Kind = Literal["hardware", "simulated", "emulated"]
LoaderKind = Literal["esptool", "uf2", "dfu"]
BootloaderEntry = Literal["dtr_rts", "1200_baud", "repl", "button"]

_T = TypeVar("_T")
# In ``port``, of a board that runs no MicroPython: it takes part by certification request.
NO_MICROPYTHON = "none"

_NEEDED = {
    "hardware": ("usb", "flash", "memory", "firmware"),
    "simulated": ("flash", "memory", "firmware", "tls", "simulator"),
    "emulated": ("flash", "memory", "firmware", "tls", "emulator"),
}


@dataclass(frozen=True, slots=True)
class Usb:
    """The (vendor, product) ids of the board's USB devices.

    ``ids`` is what its serial port may show while MicroPython runs (a board's own USB, or the USB
    to UART bridges that such boards are sold with); ``bootloader_ids`` what its bootloader shows.
    """

    ids: tuple[tuple[int, int], ...]
    bootloader_ids: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Loader:
    """What writes firmware into the board's flash, and how its bootloader is reached.

    Attributes:
        kind: esptool's protocol, a UF2 drive, or USB DFU.
        chip: esptool's name of the chip; None where esptool does not know it.
        image_offset: for esptool, the flash address that the published image goes to, in bytes.
        uf2_family_ids: for UF2, the family ids that an image's blocks may have (UF2 specification),
            the published image's first; empty for others.
        uf2_board_id: for UF2, the ``Board-ID`` in the drive's INFO_UF2.TXT.
        entry: the ways into the bootloader, best first: ``dtr_rts`` by the serial line's control
            signals, ``1200_baud`` by opening it at that rate, ``repl`` by ``machine.bootloader()``,
            ``button`` by hand.
    """

    kind: LoaderKind
    chip: str | None
    image_offset: int | None
    uf2_family_ids: tuple[int, ...]
    uf2_board_id: str | None
    entry: tuple[BootloaderEntry, ...]


@dataclass(frozen=True, slots=True)
class Flash:
    """The flash chip, the part of it that the board's filesystem has, and what writes to it."""

    size_kb: int
    filesystem_kb: int
    sector_bytes: int
    page_bytes: int
    loader: Loader | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a program has to live in; None is not recorded."""

    heap_kb: int | None
    ram_kb: int | None


@dataclass(frozen=True, slots=True)
class Firmware:
    """The MicroPython that runs on the board unless another is asked for.

    ``build`` is what such firmware says in ``sys.implementation._build``, a variant's suffix aside;
    None in ``sha256`` is a checksum that nobody has recorded: it is never guessed.
    """

    micropython: str
    build: str
    page: str | None
    url: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Tls:
    """How the stock build's TLS takes certificates and memory, and what else it can do.

    ``sign_callback`` is ``ecdsa_sign_callback``, which a key in a secure element needs.
    """

    certificate_formats: tuple[str, ...]
    heap: str
    versions: tuple[str, ...]
    sign_callback: bool


@dataclass(frozen=True, slots=True)
class Simulator:
    """How a simulated board is made: ``source`` is the folder under boards/ with its C sources."""

    source: str
    epoch: int
    unique_id_bytes: int


@dataclass(frozen=True, slots=True)
class Csr:
    """How a board without MicroPython enrols: a sketch on it makes the key and the request.

    Attributes:
        sketch: its folder, below the board's.
        models: the kinds of board that it runs on, as it calls them.
        enrol_only: those of them that never use their certificate in TLS themselves.
    """

    sketch: str
    models: tuple[str, ...]
    enrol_only: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Emulator:
    """How an emulated board is made and reached.

    ``machine`` is the emulator's name for it; ``source`` the folder under boards/ whose sources its
    firmware shares; ``host`` is this machine's address as its network has it.
    """

    machine: str
    source: str
    epoch: int
    unique_id_bytes: int
    host: str


@dataclass(frozen=True, slots=True)
class Ethernet:
    """An Ethernet port whose wiring is the board's own, with the numbers of its pins."""

    kind: str
    mdc: int
    mdio: int
    phy_addr: int

    def as_network(self) -> dict[str, str | int]:
        """Return it as config.json has it among a board's networks."""
        pins = {"mdc": self.mdc, "mdio": self.mdio, "phy_addr": self.phy_addr}
        return {"ethernet": self.kind, **pins}


@dataclass(frozen=True, slots=True)
class BoardDefinition:
    """One board.toml; a table that the file does not have is None."""

    name: str
    description: str
    mcu: str
    port: str
    kind: Kind
    capabilities: frozenset[str]
    file: Path
    usb: Usb | None
    flash: Flash | None
    memory: Memory | None
    firmware: Firmware | None
    tls: Tls | None
    simulator: Simulator | None
    emulator: Emulator | None
    ethernet: Ethernet | None
    csr: Csr | None = None

    @property
    def folder(self) -> Path:
        """The folder of the board: its board.toml and what only this board needs."""
        return self.file.parent


def _usb(table: TomlTable) -> Usb:
    usb = Usb(
        ids=table.usb_ids("ids"),
        bootloader_ids=table.usb_ids("bootloader_ids") if table.has("bootloader_ids") else (),
    )
    if not usb.ids:
        raise table.problem("ids", "must name at least one device")
    return usb


def _loader(table: TomlTable) -> Loader | None:
    if not table.has("loader"):
        return None
    kind = cast(LoaderKind, table.text("loader", choices=get_args(LoaderKind)))
    entry = table.texts("bootloader_entry", choices=get_args(BootloaderEntry))
    if not entry:
        raise table.problem("bootloader_entry", "must name at least one way")
    needs_chip = kind == "esptool" or table.has("chip")
    return Loader(
        kind=kind,
        chip=table.text("chip", pattern="[a-z0-9]+") if needs_chip else None,
        image_offset=table.number("image_offset", least=0) if kind == "esptool" else None,
        uf2_family_ids=table.numbers("uf2_family_ids") if kind == "uf2" else (),
        uf2_board_id=table.text("uf2_board_id") if kind == "uf2" else None,
        entry=cast(tuple[BootloaderEntry, ...], entry),
    )


def _flash(table: TomlTable) -> Flash:
    flash = Flash(
        size_kb=table.number("size_kb"),
        filesystem_kb=table.number("filesystem_kb"),
        sector_bytes=table.number("sector_bytes"),
        page_bytes=table.number("page_bytes"),
        loader=_loader(table),
    )
    if flash.filesystem_kb > flash.size_kb:
        raise table.problem("filesystem_kb", f"is larger than the flash ({flash.size_kb} KB)")
    if flash.filesystem_kb * 1024 % flash.sector_bytes:
        raise table.problem(
            "filesystem_kb", f"is not a number of {flash.sector_bytes}-byte sectors"
        )
    return flash


def _memory(table: TomlTable) -> Memory:
    return Memory(
        heap_kb=table.recorded_number("heap_kb"),
        ram_kb=table.number("ram_kb") if table.has("ram_kb") else None,
    )


def _firmware(table: TomlTable) -> Firmware:
    published = table.has("url") or table.has("sha256")
    firmware = Firmware(
        micropython=table.text("micropython", pattern=r"\d+\.\d+\.\d+"),
        build=table.text("build"),
        page=table.text("page", pattern="https://.+") if table.has("page") else None,
        url=table.text("url", pattern="https://.+") if published else None,
        sha256=table.recorded("sha256", pattern="[0-9a-f]{64}") if published else None,
    )
    if firmware.url is not None and f"v{firmware.micropython}." not in firmware.url:
        raise table.problem("url", f"is not MicroPython {firmware.micropython}'s")
    return firmware


def _tls(table: TomlTable) -> Tls:
    formats = table.texts("certificate_formats", choices=("der", "pem"))
    versions = table.texts("versions", choices=("1.2", "1.3"))
    for key, listed in (("certificate_formats", formats), ("versions", versions)):
        if not listed:
            raise table.problem(key, "must name at least one")
    return Tls(
        certificate_formats=formats,
        heap=table.text("heap", choices=("gc", "c")),
        versions=versions,
        sign_callback=table.flag("sign_callback"),
    )


def _simulator(table: TomlTable) -> Simulator:
    return Simulator(
        source=table.text("source"),
        epoch=table.number("epoch", choices=(1970, 2000)),
        unique_id_bytes=table.number("unique_id_bytes"),
    )


def _csr(table: TomlTable) -> Csr:
    models = table.texts("models", pattern="[a-z0-9]+")
    if not models:
        raise table.problem("models", "must name at least one")
    return Csr(
        sketch=table.text("sketch", pattern="[a-z0-9_]+"),
        models=models,
        enrol_only=table.texts("enrol_only", choices=models),
    )


def _emulator(table: TomlTable) -> Emulator:
    return Emulator(
        machine=table.text("machine"),
        source=table.text("source"),
        epoch=table.number("epoch", choices=(1970, 2000)),
        unique_id_bytes=table.number("unique_id_bytes"),
        host=table.text("host"),
    )


def _ethernet(table: TomlTable) -> Ethernet:
    return Ethernet(
        kind=table.text("kind"),
        mdc=table.number("mdc", least=0),
        mdio=table.number("mdio", least=0),
        phy_addr=table.number("phy_addr", least=0),
    )


def _read(top: TomlTable, key: str, reader: Callable[[TomlTable], _T]) -> _T | None:
    """Read one table by ``reader``, which knows all keys that it may have."""
    table = top.table(key)
    if table is None:
        return None
    value = reader(table)
    table.refuse_unread()
    return value


def read_board(file: Path) -> BoardDefinition:
    """Read one board.toml.

    Raises:
        UsageError: it cannot be read, or a key is missing, unknown or of the wrong kind; the
            message names the file, the line and the key.
    """
    top = TomlTable.read(file)
    if (schema := top.number("schema")) != SCHEMA:
        raise top.problem("schema", f"is {schema}; this version of handfast reads {SCHEMA}")
    board = BoardDefinition(
        name=top.text("name", pattern="[a-z0-9][a-z0-9-]*"),
        description=top.text("description"),
        mcu=top.text("mcu"),
        port=top.text("port"),
        kind=cast(Kind, top.text("kind", choices=get_args(Kind))),
        capabilities=frozenset(top.texts("capabilities", pattern="[a-z][a-z0-9_]*")),
        file=file,
        usb=_read(top, "usb", _usb),
        flash=_read(top, "flash", _flash),
        memory=_read(top, "memory", _memory),
        firmware=_read(top, "firmware", _firmware),
        tls=_read(top, "tls", _tls),
        simulator=_read(top, "simulator", _simulator),
        csr=_read(top, "csr", _csr),
        emulator=_read(top, "emulator", _emulator),
        ethernet=_read(top, "ethernet", _ethernet),
    )
    top.refuse_unread()
    if board.name != file.parent.name:
        raise top.problem("name", f"is {board.name!r}, but the folder is {file.parent.name!r}")
    _refuse_incomplete(board, top)
    return board


def _refuse_incomplete(board: BoardDefinition, top: TomlTable) -> None:
    if (board.port == NO_MICROPYTHON) != (board.csr is not None):
        raise top.problem("port", f'is "{NO_MICROPYTHON}" for boards with [csr], and for no others')
    needed = ("usb",) if board.csr is not None else _NEEDED[board.kind]
    for table in needed:
        if getattr(board, table) is None:
            raise top.problem(f"[{table}]", f"is missing; a {board.kind} board needs it")
    flash, memory = top.table("flash"), top.table("memory")
    if "flash" in needed and board.kind == "hardware" and flash and not flash.has("loader"):
        raise flash.problem("loader", "is missing; a hardware board needs it")
    # A board that takes the published image has the heap that this image makes.
    takes_image = board.flash is not None and board.flash.loader is not None
    if (
        board.kind in ("simulated", "emulated")
        and not takes_image
        and memory is not None
        and memory.recorded_number("heap_kb") is None
    ):
        raise memory.problem("heap_kb", f"is not recorded; a {board.kind} board needs it")


def board_files() -> dict[str, Path]:
    """Return name → board.toml of all boards, sorted by name; no file is read.

    Folders in ``HANDFAST_BOARDS`` (separated as in ``PATH``) add to those that handfast comes with,
    and come before them where a name is the same.
    """
    own = [Path(root) for root in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if root]
    files: dict[str, Path] = {}
    for root in (*own, boards_dir()):
        for file in root.glob("*/board.toml"):
            files.setdefault(file.parent.name, file)
    return dict(sorted(files.items()))


def list_boards(*, kind: Kind | None = None) -> list[str]:
    """Return the names of the boards that have a board.toml, sorted, of one kind if asked."""
    return [name for name, file in board_files().items() if kind in (None, read_board(file).kind)]


def load_board(name: str) -> BoardDefinition:
    """Return the board called ``name``.

    Raises:
        UsageError: there is no such board, or its board.toml is wrong.
    """
    files = board_files()
    if name not in files:
        raise UsageError(f"there is no board {name!r}; known boards: {', '.join(files) or 'none'}")
    return read_board(files[name])


def load_boards() -> list[BoardDefinition]:
    """Return all boards.

    Raises:
        UsageError: a board.toml is wrong.
    """
    return [read_board(file) for file in board_files().values()]
