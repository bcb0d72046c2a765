"""``handfast board``: what boards are, and which are plugged in."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from handfast.boards.definition import (
    BoardDefinition,
    board_files,
    load_board,
    load_boards,
    read_board,
)
from handfast.boards.discovery import TIMEOUT_S, Found, Port, scan
from handfast.boards.local_ports import local_ports
from handfast.boards.toml_table import NOT_RECORDED
from handfast.cli import flash, fuses
from handfast.cli.console import console, run, shell
from handfast.errors import CheckFailed, UsageError

_HEX_KEYS = ("uf2_family_ids", "image_offset")

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """List, show and check board definitions, and find boards on serial ports."""


@command.command(name="list")
@_json
def list_(as_json: bool) -> None:
    """List the boards that handfast knows."""
    boards = load_boards()
    if as_json:
        click.echo(json.dumps({"boards": [document(board) for board in boards]}))
        return
    table = Table(Column("board", no_wrap=True), "kind", "chip", "what it is", "capabilities")
    for board in boards:
        capabilities = ", ".join(sorted(board.capabilities))
        table.add_row(board.name, board.kind, board.mcu, board.description, capabilities)
    Console().print(table, highlight=False)


@command.command()
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show all that is known of a board."""
    shown = document(load_board(name))
    if as_json:
        click.echo(json.dumps(shown))
        return
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _rows(shown, ""):
        table.add_row(key, value)
    Console().print(table, highlight=False)


@command.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@_json
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check board.toml files, all that handfast knows by default; exits 1 if one is wrong."""
    problems: dict[Path, str | None] = {}
    for file in files or board_files().values():
        try:
            read_board(file)
            problems[file] = None
        except UsageError as error:
            problems[file] = str(error)
    wrong = [problem for problem in problems.values() if problem is not None]
    if as_json:
        boards = [{"file": str(file), "problem": problem} for file, problem in problems.items()]
        click.echo(json.dumps({"valid": not wrong, "boards": boards}))
    if wrong:
        raise CheckFailed("\n".join(wrong))
    if not as_json:
        click.echo(f"board definitions checked: {len(problems)}, all valid")


@command.command(name="scan")
@click.option("--port", "urls", multiple=True, help="Ask this port or URL, and no other.")
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0.1),
    default=TIMEOUT_S,
    show_default=True,
    help="How long a port may keep silent.",
)
@_json
def scan_(urls: tuple[str, ...], timeout_s: float, as_json: bool) -> None:
    """Find boards on USB serial ports, and the simulated ones that run.

    Each is asked what it is, all at once: what a board was doing is interrupted, and started again
    by a soft reset. A port that another program holds is left alone. Anything behind a USB to UART
    bridge that boards have too is sent the same few bytes: with --port, only that port is.
    """
    ports = [Port(url) for url in urls] or local_ports()
    with Console(stderr=True, quiet=as_json).status(f"asking {len(ports)} ports"):
        found = scan(ports, load_boards(), timeout_s=timeout_s)
    if as_json:
        click.echo(json.dumps({"ports": [_port_document(one) for one in found]}))
    elif not found:
        click.echo("No USB serial port, and no simulated board is running.")
    else:
        _print(found)


def _print(found: list[Found]) -> None:
    # Names and ports are there to be copied.
    whole = (Column(title, overflow="fold") for title in ("name", "port"))
    table = Table(*whole, "USB", "MicroPython", "device", "state")
    for one in found:
        table.add_row(
            one.name or "",
            one.port.url,
            _usb_id(one.port.usb) or "",
            one.micropython or "",
            one.device_id or "",
            one.state,
        )
    console = Console()
    console.print(table, highlight=False)
    for one in found:
        if one.problem is not None:
            maybe = f" (may be: {', '.join(one.candidates)})" if one.candidates else ""
            console.print(f"{one.port.url}: {one.problem}{maybe}", highlight=False, markup=False)


def _port_document(found: Found) -> dict[str, Any]:
    port = {
        "port": found.port.url,
        "usb": _usb_id(found.port.usb),
        "usb_serial": found.port.usb_serial,
    }
    return port | {key: value for key, value in asdict(found).items() if key != "port"}


def document(board: BoardDefinition) -> dict[str, Any]:
    """Return a definition as its file has it, in the types of JSON; null is not recorded."""
    values = asdict(board)
    values["capabilities"] = sorted(board.capabilities)
    values["file"] = str(board.file)
    if board.usb is not None:
        values["usb"] = {key: [_usb_id(pair) for pair in ids] for key, ids in values["usb"].items()}
    return values


def _usb_id(pair: tuple[int, int] | None) -> str | None:
    return None if pair is None else f"{pair[0]:04x}:{pair[1]:04x}"


def _rows(values: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            rows.append((prefix + key, ", ".join(_text(key, item) for item in value)))
        elif value is not None or key in ("heap_kb", "sha256"):
            rows.append((prefix + key, NOT_RECORDED if value is None else _text(key, value)))
    return rows


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return hex(value) if isinstance(value, int) and key in _HEX_KEYS else str(value)


command.add_command(flash.command, "flash")
command.add_command(fuses.command, "fuses")
for _people in (console, shell, run):
    command.add_command(_people)
