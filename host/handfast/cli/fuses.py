"""``handfast board fuses``: show what flash encryption and secure boot would burn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from handfast.errors import Refused

_path = click.Path(path_type=Path)


@click.command()
@click.option("--port", required=True, help="The board's serial port.")
@click.option("--encryption-key", type=_path, help="A file of 32 octets, for flash encryption.")
@click.option("--signing-key", type=_path, help="An RSA-3072 key in PEM, for secure boot 2.")
@click.option(
    "--before",
    type=click.Choice(["default-reset", "usb-reset", "no-reset"]),
    default="default-reset",
    show_default=True,
    help="How the chip gets to its bootloader.",
)
@click.option("--burn", "wanted", is_flag=True, help="Ask for the phrase, and then burn for good.")
def command(
    port: str, encryption_key: Path | None, signing_key: Path | None, before: Any, wanted: bool
) -> None:
    """Show which eFuses of an ESP32 would be burned, and what that means; burn none of them.

    With --burn, in a terminal, the plan's phrase is asked for, which names this one chip.
    """
    from handfast.boards.flash.esp_loader import EspLoader
    from handfast.boards.flash.fuses import burn, open_fuses, plan_burns

    with EspLoader.connect(port, before=before, stub=False) as loader:
        chip = loader.describe()
        plan = plan_burns(
            chip.name, chip.mac, encryption_key=encryption_key, signing_key=signing_key
        )
        click.echo("\n".join(plan.lines()))
        if not wanted:
            raise Refused("nothing was burned; --burn asks for the phrase that would do it")
        if not sys.stdin.isatty():
            raise Refused("nothing was burned: the phrase is typed in a terminal, by a person")
        typed = click.prompt(f"Type '{plan.phrase}' to burn, anything else not to", err=True)
        with open_fuses(loader.device) as commands:
            burn(plan, typed, commands)
        click.echo("Burned.")
