"""``handfast board flash``: put MicroPython on a board, and see that it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from handfast.boards.definition import BoardDefinition, load_board, load_boards
from handfast.boards.discovery import Port, find, port_now
from handfast.boards.local_ports import local_ports
from handfast.cli.progress import progress_bars
from handfast.errors import UsageError

if TYPE_CHECKING:
    from handfast.boards.flash.flash_board import Options
    from handfast.boards.flash.running import Running

_CHECK_S = 30.0
_path = click.Path(path_type=Path)


@click.command()
@click.option(
    "--board",
    "name",
    required=True,
    help="What it is (see `handfast board list`), or the one that `handfast board scan` calls so.",
)
@click.option("--port", help="Its serial port: a path, or rfc2217://HOST:PORT.")
@click.option("--firmware", type=_path, help="An image that you have, instead of its own.")
@click.option("--url", help="The address of another image; it is fetched once and kept.")
@click.option("--sha256", help="The image's SHA-256.")
@click.option("--erase", is_flag=True, help="Erase all of the flash first (ESP32).")
@click.option(
    "--before",
    type=click.Choice(["default-reset", "usb-reset", "no-reset", "bootloader"]),
    help="How an ESP32 gets to its bootloader: by DTR and RTS, by those of its own USB, not at all "
    "because it is there, or by asking MicroPython or 1200 baud. By default by its board.toml.",
)
@click.option(
    "--after",
    type=click.Choice(["hard-reset", "watchdog-reset", "no-reset"]),
    default="hard-reset",
    show_default=True,
    help="How an ESP32 is started afterwards.",
)
@click.option("--no-stub", is_flag=True, help="Let the ESP32's ROM do it, without esptool's stub.")
@click.option("--baud", type=int, default=460800, show_default=True, help="For the transfer.")
@click.option("--drive", type=_path, help="The folder of a Pico's BOOTSEL drive.")
@click.option("--picotool", is_flag=True, help="Use picotool for a Pico.")
@click.option("--version", "expected_version", help="The MicroPython that must run afterwards.")
@click.option("--build", help="The build that must run afterwards, as RPI_PICO_W.")
@click.option("--no-check", is_flag=True, help="Do not ask the board what it runs afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    name: str,
    port: str | None,
    firmware: Path | None,
    url: str | None,
    sha256: str | None,
    expected_version: str | None,
    build: str | None,
    no_check: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put MicroPython on a board, verify it there, and see that it runs.

    Chip, addresses, image families and the image itself are those of the board's board.toml.
    Nothing is written before image, chip and board are known to belong together. After a failure,
    run it again: what has arrived is not written twice.
    """
    from handfast.boards.flash.flash_board import firmware_for, flash_board, loader_of

    board, place = _board(name, port)
    loader_of(board)
    with progress_bars(quiet=as_json) as tell:
        image = firmware_for(board, file=firmware, url=url, sha256=sha256, progress=tell)
        where = None if place is None else place.url
        done = flash_board(board, image, port=where, options=_options(**options), progress=tell)
        running = None
        if place is not None and not no_check:
            tell("check", 0)
            running = _check(
                board,
                name,
                place,
                published=firmware is None and url is None,
                version=expected_version,
                build=build,
            )
    result = {"board": board.name, "port": where, **asdict(done)} | {
        "sha256": image.sha256,
        "sha256_recorded": image.recorded,
        "running": None if running is None else asdict(running),
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        _print(result)


def _options(
    *,
    before: Any,
    after: Any,
    no_stub: bool,
    baud: int,
    erase: bool,
    drive: Path | None,
    picotool: bool,
) -> Options:
    from handfast.boards.flash.flash_board import Options

    return Options(
        before=before,
        after=after,
        stub=not no_stub,
        baudrate=baud,
        erase=erase,
        drive=drive,
        picotool=picotool,
    )


def _board(name: str, port: str | None) -> tuple[BoardDefinition, Port | None]:
    """Return what the board is, and where, if it is anywhere."""
    kind, at, hardware_id = name.rpartition("@")
    if not at:
        return load_board(hardware_id), Port(port) if port is not None else None
    if port is not None:
        raise UsageError(f"{name} names one board, which is found wherever it is: leave --port out")
    board = load_board(kind)
    return board, find(name, local_ports(), load_boards())


def _check(
    board: BoardDefinition,
    name: str,
    port: Port,
    *,
    published: bool,
    version: str | None,
    build: str | None,
) -> Running:
    """Ask the board what it runs; its own image must be its definition's, another a board's."""
    from handfast.boards.flash.running import ask_running, compare_board, compare_running

    hardware_id = name.rpartition("@")[2]
    running = ask_running(lambda: port_now(port, hardware_id, local_ports()), timeout_s=_CHECK_S)
    compare_running(running, version=version, build=build)
    if build is None:
        compare_board(running, board, load_boards(), published=published and version is None)
    return running


def _print(result: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None)
    for key in ("board", "chip", "description", "mac", "family", "way"):
        if key in result:
            table.add_row(key, str(result[key]))
    kept = f", {result['kept']} were there" if result.get("kept") else ""
    table.add_row("bytes", f"{result['written']} written{kept}")
    recorded = "as recorded" if result["sha256_recorded"] else "not recorded before"
    table.add_row("SHA-256", f"{result['sha256'][:16]}… ({recorded})")
    if running := result["running"]:
        table.add_row("runs", f"{running['name']} {running['version']} on {running['machine']}")
    table.add_row("took", f"{result['seconds']:.1f} s")
    Console().print(table, highlight=False)
