"""``handfast token``: one-time enrolment tokens."""

from __future__ import annotations

import json
from pathlib import Path

import click

from handfast.cli.device import client, common_options, when
from handfast.pki.names import validate_device_id


@click.group()
def command() -> None:
    """Create one-time enrolment tokens (the gateway must be running)."""


@command.command("create")
@click.argument("device_id")
@click.option(
    "--lifetime-s",
    type=click.IntRange(min=1, max=30 * 86_400),
    default=86_400,
    show_default=True,
    help="How long the token may be used.",
)
@common_options
def create_command(device_id: str, lifetime_s: int, folder: Path | None, as_json: bool) -> None:
    """Create a token; it is shown this once, alone on stdout."""
    made = client(folder).create_token(validate_device_id(device_id), lifetime_s=lifetime_s)
    if as_json:
        click.echo(json.dumps({"device_id": device_id, **made}))
        return
    click.echo(made["token"])
    click.echo(f"for {device_id}, until {when(made['expires'])}", err=True)
