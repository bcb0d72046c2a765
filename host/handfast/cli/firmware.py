"""``handfast firmware``: MicroPython with what stock firmware lacks, and the device library."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from handfast.boards.firmware_options import OPTIONS

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_folder = click.Path(file_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Build MicroPython with what stock firmware lacks, and the device library."""


@command.command()
@_json
def options(as_json: bool) -> None:
    """Show what can be added to a build."""
    if as_json:
        click.echo(json.dumps({name: option.about for name, option in OPTIONS.items()}))
        return
    table = Table("option", "what it adds")
    for name, option in OPTIONS.items():
        table.add_row(name, option.about)
    Console().print(table)


@command.command()
@click.argument("board")
@click.option(
    "--with",
    "names",
    default="",
    metavar="OPTION[,OPTION...]",
    help="What to add to stock firmware (see `handfast firmware options`).",
)
@click.option(
    "--micropython",
    type=_folder,
    envvar="HANDFAST_MICROPYTHON",
    help="A checkout of MicroPython with its submodules; HANDFAST_MICROPYTHON says it too. "
    "A simulated board needs none.",
)
@click.option(
    "--out",
    type=_folder,
    default=Path("firmware-out"),
    show_default=True,
    help="The folder that the firmware is put into.",
)
@_json
def build(board: str, names: str, micropython: Path | None, out: Path, as_json: bool) -> None:
    """Build firmware for BOARD, by pico-sdk or ESP-IDF; says what is missing for it.

    `handfast board flash --board BOARD --firmware FILE` puts it on a board.
    """
    from handfast.boards.custom_firmware import build_custom_firmware

    chosen = [name.strip() for name in names.split(",") if name.strip()]
    with Console(stderr=True, quiet=as_json).status(f"building firmware for {board}") as status:
        built = build_custom_firmware(
            board, chosen, micropython=micropython, out=out, progress=status.update
        )
    if as_json:
        click.echo(json.dumps(asdict(built) | {"file": str(built.file)}))
    else:
        click.echo(f"{built.file}  {built.size_bytes:,} bytes  SHA-256 {built.sha256}")


def _version(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Return the version of the bytecode: what follows its dot is for machine code only."""
    number, _, _ = value.partition(".")
    if not number.isdecimal():
        raise click.BadParameter("a version is 6, or 6.3")
    return int(number)


@command.command()
@click.option("--out", type=_folder, required=True, help="The folder that it is put into.")
@click.option(
    "--mpy",
    default="6.3",
    show_default=True,
    callback=_version,
    help="The version of the bytecode; each MicroPython since 1.19 loads 6.",
)
@click.option("--source", is_flag=True, help="Write source, for firmware that freezes it.")
@click.option(
    "--unpacked",
    is_flag=True,
    help="Write each module as a file of its own, for a MicroPython without `deflate`.",
)
@_json
def library(out: Path, mpy: int, source: bool, unpacked: bool, as_json: bool) -> None:
    """Write the compact device library, as `handfast provision` gives it to a board.

    `mpremote mip install OUT/package.json` puts the bytecode on a board. With --source,
    OUT/manifest.py freezes it into a firmware; a board has no room to compile it.
    """
    from handfast.boards.library_package import write_library

    with Console(stderr=True, quiet=as_json).status("making the library") as status:
        version = None if source else mpy
        written = write_library(out, mpy=version, packed=not unpacked, progress=status.update)
    if as_json:
        click.echo(json.dumps(asdict(written) | {"folder": str(out)}))
        return
    kind = "source" if written.mpy is None else f"bytecode {written.mpy}"
    size = sum(written.files.values())
    click.echo(f"{written.described}  {len(written.files)} files of {kind}, {size:,} bytes")
