"""``handfast board``: what boards are, and which are plugged in."""

from __future__ import annotations

import click

from handfast.cli.console import console, run, shell


@click.group()
def command() -> None:
    """List, show and check board definitions, and find boards on serial ports."""


for _people in (console, shell, run):
    command.add_command(_people)
