"""``handfast board``: boards by hand."""

from __future__ import annotations

import click

from handfast.cli import flash


@click.group()
def command() -> None:
    """Flash boards."""


command.add_command(flash.command, "flash")
