"""``handfast sim``: simulated and emulated boards by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
from rich.console import Console
from rich.table import Table

from handfast.boards import detached
from handfast.boards.virtual import virtual_boards
from handfast.boards.virtual_board import Entropy
from handfast.errors import UsageError

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """Start and stop simulated and emulated boards."""


@command.command()
@click.option("--board", "profile", default="sim-pico-w", show_default=True, help="Which board.")
@click.option("--name", help="A name for it (default: the board's, with a number if needed).")
@click.option(
    "--flash",
    "flash_image",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that is its flash chip (default: kept under the board's name).",
)
@click.option("--micropython", metavar="VERSION", help="MicroPython's version.")
@click.option(
    "--entropy",
    type=click.Choice(get_args(Entropy)),
    default="host",
    show_default=True,
    help="Its random source: sound, one octet over and over, or the same octets each time.",
)
@_json
def start(
    profile: str,
    name: str | None,
    flash_image: Path | None,
    micropython: str | None,
    entropy: Entropy,
    as_json: bool,
) -> None:
    """Start a board and leave it running; prints the path of its serial line."""
    with Console(stderr=True).status(f"starting {profile}") as status:
        board = detached.start_detached(
            profile,
            name=name,
            flash_image=flash_image,
            micropython=micropython,
            entropy=entropy,
            progress=status.update,
        )
    click.echo(json.dumps(asdict(board)) if as_json else board.serial_url)


@command.command(name="list")
@_json
def list_(as_json: bool) -> None:
    """Show the simulated boards that are running."""
    boards = detached.list_detached()
    if as_json:
        click.echo(json.dumps({"boards": [asdict(board) for board in boards]}))
        return
    if not boards:
        known = ", ".join(virtual_boards())
        click.echo(
            f"No simulated board is running. `handfast sim start --board ...` knows: {known}"
        )
        return
    table = Table("name", "board", "serial line", "process", "flash image")
    for board in boards:
        row = (board.name, board.profile, board.serial_url, str(board.pid), board.flash_image)
        table.add_row(*row)
    Console().print(table)


@command.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Stop all of them.")
@_json
def stop(name: str | None, every: bool, as_json: bool) -> None:
    """Stop a simulated board; its flash image stays."""
    if every == (name is not None):
        raise UsageError("give the name of a board, or --all")
    boards = detached.list_detached() if name is None else [detached.find_detached(name)]
    for board in boards:
        detached.stop_detached(board)
    names = [board.name for board in boards]
    click.echo(
        json.dumps({"stopped": names}) if as_json else "\n".join(names) or "none was running"
    )


@command.command(name="power-cycle")
@click.argument("name")
@_json
def power_cycle(name: str, as_json: bool) -> None:
    """Switch a simulated board off and on again: RAM and clock are lost, the flash stays."""
    board = detached.find_detached(name)
    detached.power_cycle_detached(board)
    click.echo(json.dumps({"power_cycled": board.name}) if as_json else board.serial_url)
