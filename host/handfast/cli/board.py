"""``handfast board``: boards by hand."""

from __future__ import annotations

import click

from handfast.cli import flash, fuses


@click.group()
def command() -> None:
    """Flash boards, and look at what their chips have burned in."""


command.add_command(flash.command, "flash")
command.add_command(fuses.command, "fuses")
