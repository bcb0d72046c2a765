"""``handfast provision``: give a board its library, trust anchor, identity and application."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from handfast.admin_client import AdminClient
from handfast.boards.definition import load_boards
from handfast.boards.detached import find_detached
from handfast.boards.discovery import find
from handfast.boards.local_ports import local_ports
from handfast.boards.provision import Provisioned, provision
from handfast.cli.progress import progress_bars
from handfast.errors import UsageError
from handfast.pki.names import validate_device_id
from handfast.state import StateDir

_WIFI_PASSWORD = "HANDFAST_WIFI_PASSWORD"  # noqa: S105 - the variable's name


def _json_object(text: str | None) -> dict[str, Any] | None:
    """Return what an option gives; what it means, the board checks."""
    try:
        value = None if text is None else json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}") from error
    if text is not None and not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object")
    return value


@click.command()
@click.option(
    "--board",
    required=True,
    help="A name that `board scan` shows, a running simulated board's, or a serial port.",
)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="The gateway's state folder."
)
@click.option("--device-id", help="The device's name; by default made from the hardware.")
@click.option("--no-start", is_flag=True, help="Leave the application stopped.")
@click.option("--no-token", is_flag=True, help="Let the board enrol with its IDevID alone.")
@click.option("--reseed", is_flag=True, help="Give the board a new random seed.")
@click.option(
    "--wifi",
    "ssid",
    metavar="SSID",
    help=f"The Wi-Fi network to join; its password from ${_WIFI_PASSWORD} or a prompt.",
)
@click.option(
    "--ntp-host", default="", help="Asked for the time when the gateway's own cannot be had."
)
@click.option(
    "--secure-element",
    metavar="JSON",
    callback=lambda _context, _option, text: _json_object(text),
    help="""The chip for the private keys, as '{"i2c": 0, "scl": 5, "sda": 4, "slots": {"a": 2, """
    """"b": 3, "idevid": 0}}'; what the board has been told by default.""",
)
@click.option(
    "--ethernet",
    metavar="JSON",
    callback=lambda _context, _option, text: _json_object(text),
    help="""An Ethernet port, tried before Wi-Fi, as '{"ethernet": "LAN8720", "mdc": 23, """
    """"mdio": 18, "phy_addr": 1}'; what the board has been told by default.""",
)
@click.option(
    "--rtc",
    metavar="JSON",
    callback=lambda _context, _option, text: _json_object(text),
    help="""A clock chip with a battery, as '{"chip": "ds3231", "i2c": 0, "scl": 5, "sda": 4}'; """
    """what the board has been told by default.""",
)
@click.option(
    "--watchdog-s",
    type=click.IntRange(min=0, max=86_400),
    help="Reset the board after so long without a report taken; 0: never.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    board: str,
    folder: Path | None,
    device_id: str | None,
    no_start: bool,
    no_token: bool,
    reseed: bool,
    ssid: str | None,
    ntp_host: str,
    secure_element: dict[str, Any] | None,
    ethernet: dict[str, Any] | None,
    rtc: dict[str, Any] | None,
    watchdog_s: int | None,
    as_json: bool,
) -> None:
    """Give a board its library, trust anchor, identity and application.

    May be run again: only what differs is copied, and the board's identity is kept.
    """
    if device_id is not None:
        validate_device_id(device_id)
    networks = None if ssid is None else {ssid: _wifi_password(ssid)}
    with progress_bars(quiet=as_json) as tell:
        done = provision(
            serial_url(board),
            gateway=AdminClient(StateDir.choose(folder)),
            device_id=device_id,
            networks=networks,
            ntp_host=ntp_host,
            secure_element=secure_element,
            ethernet=ethernet,
            rtc=rtc,
            watchdog_s=watchdog_s,
            start=not no_start,
            token=not no_token,
            reseed=reseed,
            progress=tell,
        )
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        _print(done, started=not no_start)


def serial_url(board: str) -> str:
    """Return the serial port of ``board``.

    Args:
        board: a path or URL, which is returned as it is; a name that ``board scan`` shows, such as
            ``pico-w@E6614C311B7E6F35``; or the name of a running simulated board.

    Raises:
        BoardProblem: there is no such board.
    """
    if "/" in board or "://" in board or board.upper().startswith("COM"):
        return board
    if "@" in board:
        return find(board, local_ports(), load_boards()).url
    return find_detached(board).serial_url


def _wifi_password(ssid: str) -> str:
    if (password := os.environ.get(_WIFI_PASSWORD)) is not None:
        return password
    if not sys.stdin.isatty():
        raise UsageError(f"no password for {ssid}: set {_WIFI_PASSWORD}, or run this in a terminal")
    entered: str = click.prompt(f"Password of {ssid}", hide_input=True, err=True)
    return entered


def _print(done: Provisioned, *, started: bool) -> None:
    if done.enrolled:
        way_in = "enrolled already"
    elif done.token_given:
        way_in = "one-time token handed over"
    else:
        way_in = "by its IDevID, or the token it has"
    removed = f", {done.files_removed} removed" if done.files_removed else ""
    table = Table(show_header=False, box=None)
    table.add_row("device", done.device_id)
    table.add_row("hardware", done.hardware_id)
    table.add_row("files", f"{done.files_copied} copied, {done.files_unchanged} unchanged{removed}")
    if not done.compiled:
        table.add_row("library", "as source, for want of an mpy-cross that fits this MicroPython")
    idevid = "issued" if done.idevid_issued else "kept"
    table.add_row("IDevID", f"{idevid}, SHA-256 {done.idevid_sha256[:16]}…")
    table.add_row("enrolment", way_in)
    table.add_row("application", "started" if started else "not started")
    table.add_row("took", f"{done.seconds:.1f} s")
    Console().print(table, highlight=False)
