"""``handfast ca rollover``: new trust anchors for a fleet that goes on calling."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from handfast.admin_client import AdminClient
from handfast.cli.root_key import (
    require_root_options,
    root_dir_option,
    root_keeping,
    root_passphrase_option,
)
from handfast.errors import Unreachable, UsageError
from handfast.pki.keystore import passphrase
from handfast.pki.rollover import (
    begin_root_rollover,
    begin_server_rollover,
    fingerprint,
    load_published,
)
from handfast.state import StateDir

_MOST_SHOWN = 20

_folder_option = click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="State folder."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its first line is the CA keys' passphrase.",
)
_root_dir_option = root_dir_option("Where the root's key is kept, if not with the other keys.")


@click.group()
def command() -> None:
    """Have a new server CA, or a new root, take the place of the present one."""


@command.command("server")
@click.option(
    "--switch", is_flag=True, help="Do not wait for the devices that lack the new CA any longer."
)
@_folder_option
@_root_dir_option
@_passphrase_option
@root_passphrase_option
@_json_option
def server_command(
    switch: bool,
    folder: Path | None,
    root_dir: Path | None,
    passphrase_file: Path | None,
    root_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make a new server CA, which takes over when every active device has reported it.

    It is published at once; boards take it at their next renewal and report it. A running gateway
    goes on presenting leaves of the old CA until then, or until --switch. A board that missed it
    by then is given it by `handfast provision`.
    """
    state = StateDir.choose(folder)
    if switch:
        given = (root_dir, root_passphrase_file, passphrase_file)
        _reject_keys(given, "--switch needs no keys: the gateway has them")
        _show(AdminClient(state).switch_server_ca(), as_json)
        return
    require_root_options(state, root_dir, root_passphrase_file)
    secret = passphrase("Passphrase of the CA keys", file=passphrase_file)
    begin_server_rollover(state, secret, root=root_keeping(root_dir, root_passphrase_file))
    _show(_published(state), as_json)


@command.command("root")
@click.option(
    "--retire", is_flag=True, help="Publish the old root no more, whoever still lacks the new one."
)
@_folder_option
@_root_dir_option
@_passphrase_option
@root_passphrase_option
@_json_option
def root_command(
    retire: bool,
    folder: Path | None,
    root_dir: Path | None,
    passphrase_file: Path | None,
    root_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make a new root, which boards accept since the old one vouches for it.

    It signs CAs from now on; those in use stay as they are. The old root is published beside it
    until every active device has reported the new one and no server CA in use or to come is of the
    old one: roll that over next.
    """
    state = StateDir.choose(folder)
    if retire:
        given = (root_dir, root_passphrase_file, passphrase_file)
        _reject_keys(given, "--retire needs no keys")
        _show(AdminClient(state).retire_root(), as_json)
        return
    require_root_options(state, root_dir, root_passphrase_file)
    secret = passphrase("Passphrase of the CA keys", file=passphrase_file)
    begin_root_rollover(state, secret, root=root_keeping(root_dir, root_passphrase_file))
    _show(_published(state), as_json)


@command.command("status")
@_folder_option
@_json_option
def status_command(folder: Path | None, as_json: bool) -> None:
    """Show what is published, and which active devices have not reported it."""
    state = StateDir.choose(folder)
    try:
        status = AdminClient(state).rollover()
    except Unreachable:
        status = _from_files(state)
    _show(status, as_json)


def _reject_keys(given: tuple[Path | None, ...], why: str) -> None:
    if any(path is not None for path in given):
        raise UsageError(why)


def _published(state: StateDir) -> dict[str, Any]:
    """Have a running gateway publish it now; one that starts later does so by itself."""
    try:
        return AdminClient(state).reload_trust()
    except Unreachable:
        click.echo("no gateway runs: it is published when one is started", err=True)
        return _from_files(state)


def _from_files(state: StateDir) -> dict[str, Any]:
    """Return the status without the devices, which only a gateway knows."""
    published = load_published(state)
    following, old_root = published.next_server, published.old_root
    return {
        "server": {
            "in_use": fingerprint(published.server),
            "next": following and fingerprint(following),
            "waiting_for": None,
        },
        "root": {
            "in_use": fingerprint(published.root),
            "old": old_root and fingerprint(old_root),
            "old_signed_server_ca": old_root is not None and published.old_root_is_needed,
            "waiting_for": None,
        },
    }


def _show(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    table = Table(show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for kind, label in (("server", "server CA"), ("root", "root")):
        facts = status[kind]
        table.add_row(f"{label} in use", facts["in_use"])
        other = facts.get("next") or facts.get("old")
        if other is None:
            continue
        table.add_row("next one" if kind == "server" else "old one", other)
        if facts["waiting_for"]:
            table.add_row("waiting for", "\n".join(_waited_for(facts["waiting_for"])))
        elif facts["waiting_for"] is not None and not facts.get("old_signed_server_ca"):
            table.add_row("waiting for", "nobody")
        if facts.get("old_signed_server_ca"):
            table.add_row("", "a server CA is of the old root: roll it over as well")
    Console().print(table, highlight=False)


def _waited_for(devices: list[dict[str, Any]]) -> list[str]:
    lines = [f"{one['device_id']} ({_when(one['reported'])})" for one in devices[:_MOST_SHOWN]]
    more = len(devices) - len(lines)
    return lines + ([f"and {more} more (--json lists them)"] if more else [])


def _when(reported: int | None) -> str:
    if reported is None:
        return "never reported its anchors"
    return f"lacks it as of {datetime.fromtimestamp(reported, UTC):%Y-%m-%d %H:%M:%SZ}"
