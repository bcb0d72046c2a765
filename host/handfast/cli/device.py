"""``handfast device``: list, show, add, suspend, resume and revoke devices."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from handfast.admin_client import AdminClient, RemoteGateway
from handfast.errors import UsageError
from handfast.pki.names import validate_device_id, validate_hardware_id
from handfast.state import StateDir

Command = TypeVar("Command", bound=Callable[..., Any])


def common_options(function: Command) -> Command:
    """Add ``--dir``, ``--json``, and the two that name a gateway on another machine."""
    file = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option(
            "--admin-cert",
            type=file,
            envvar="HANDFAST_ADMIN_CERT",
            expose_value=False,
            callback=_remember,
            help="For --url: what `handfast ca issue-admin` wrote.",
        ),
        click.option(
            "--url",
            envvar="HANDFAST_ADMIN_URL",
            expose_value=False,
            callback=_remember,
            help="Admin listener of a gateway on another machine.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option(
            "--dir", "folder", type=click.Path(path_type=Path), help="The gateway's state folder."
        ),
    ):
        function = option(function)
    return function


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep what only :func:`client` wants, so that no command has to pass it on."""
    context.meta[f"{__name__}.{option.name}"] = value


def client(folder: Path | None) -> AdminClient:
    """Return a client of the gateway at ``--url``, or of the one that runs on ``--dir``."""
    meta = click.get_current_context().meta
    url, credential = meta[f"{__name__}.url"], meta[f"{__name__}.admin_cert"]
    if url is None:
        return AdminClient(StateDir.choose(folder))
    if credential is None:
        raise UsageError("--url needs --admin-cert")
    return AdminClient(RemoteGateway(url, credential))


@click.group()
def command() -> None:
    """List, show, add, suspend, resume and revoke devices (the gateway must be running)."""


@command.command("list")
@common_options
def list_command(folder: Path | None, as_json: bool) -> None:
    """List every device."""
    devices = client(folder).devices()
    if as_json:
        click.echo(json.dumps({"devices": devices}))
        return
    table = Table("device", "state", "hardware", "added", "last seen")
    for device in devices:
        table.add_row(
            device["device_id"],
            device["state"],
            device["hardware_id"] or "",
            when(device["created"]),
            when(device["last_seen"]),
        )
    Console().print(table)


@command.command("show")
@click.argument("device_id")
@common_options
def show_command(device_id: str, folder: Path | None, as_json: bool) -> None:
    """Show a device with its certificates and tokens."""
    device = client(folder).device(validate_device_id(device_id))
    if as_json:
        click.echo(json.dumps(device))
        return
    console = Console()
    console.print(f"{device['device_id']}: {device['state']}", highlight=False)
    console.print(f"hardware {device['hardware_id'] or '-'}", highlight=False)
    console.print(f"last seen {when(device['last_seen'])}", highlight=False)
    console.print(_certificates(device["certificates"]))
    if device["tokens"]:
        console.print(_tokens(device["tokens"]))


def _certificates(rows: list[dict[str, Any]]) -> Table:
    table = Table("kind", "state", "not before", "not after", "serial")
    for row in rows:
        begin, end = when(row["not_before"]), when(row["not_after"])
        table.add_row(row["kind"], row["state"], begin, end, row["serial"])
    return table


def _tokens(rows: list[dict[str, Any]]) -> Table:
    table = Table("token made", "expires", "used")
    for row in rows:
        used = when(row["used"]) if row["used"] else ("begun" if row["bound"] else "")
        table.add_row(when(row["created"]), when(row["expires"]), used)
    return table


@command.command("add")
@click.argument("device_id")
@click.option("--hardware-id", help="The hardware's own id, for the subject's serialNumber.")
@common_options
def add_command(
    device_id: str, hardware_id: str | None, folder: Path | None, as_json: bool
) -> None:
    """Register a device."""
    validate_device_id(device_id)
    if hardware_id is not None:
        validate_hardware_id(hardware_id)
    device = client(folder).add_device(device_id, hardware_id=hardware_id)
    click.echo(json.dumps(device) if as_json else f"{device_id} added")


@command.command("suspend")
@click.argument("device_id")
@common_options
def suspend_command(device_id: str, folder: Path | None, as_json: bool) -> None:
    """Refuse a device's every credential until it is resumed."""
    _print_change(client(folder).suspend(validate_device_id(device_id)), as_json)


@command.command("resume")
@click.argument("device_id")
@common_options
def resume_command(device_id: str, folder: Path | None, as_json: bool) -> None:
    """End a device's suspension."""
    _print_change(client(folder).resume(validate_device_id(device_id)), as_json)


@command.command("revoke")
@click.argument("device_id")
@common_options
def revoke_command(device_id: str, folder: Path | None, as_json: bool) -> None:
    """Refuse a device's every credential for good."""
    _print_change(client(folder).revoke(validate_device_id(device_id)), as_json)


@command.command("renew")
@click.argument("device_ids", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every active device.")
@click.option(
    "--in-s",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="When the window begins, from now.",
)
@click.option(
    "--over-s",
    type=click.IntRange(min=1),
    default=3600,
    show_default=True,
    help="How long it is; each device chooses a moment in it by chance.",
)
@click.option("--cancel", is_flag=True, help="Take what was suggested back.")
@common_options
def renew_command(
    device_ids: tuple[str, ...],
    everyone: bool,
    in_s: int,
    over_s: int,
    cancel: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Suggest to devices when to renew, to pull renewals forward or to spread them.

    A device asks 16 times in its certificate's life, and at most every 15 s. It never waits longer
    than until a sixth of that life is left.
    """
    if everyone == bool(device_ids):
        raise UsageError("name devices, or give --all")
    for device_id in device_ids:
        validate_device_id(device_id)
    start = int(time.time()) + in_s
    window = None if cancel else (start, start + over_s)
    number = client(folder).suggest_renewal(window, None if everyone else list(device_ids))
    if as_json:
        click.echo(json.dumps({"window": window, "devices": number}))
    elif window is None:
        click.echo(f"{number} devices renew when they choose to")
    else:
        click.echo(f"{number} devices asked to renew from {when(window[0])} to {when(window[1])}")


def _print_change(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    closed = answer["closed_connections"]
    closing = f", {closed} open connection{'s' if closed != 1 else ''} closed" if closed else ""
    click.echo(f"{answer['device_id']} is {answer['state']}{closing}")


def when(unix_s: float | None) -> str:
    """Return a time for people, in UTC."""
    if unix_s is None:
        return "never"
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
