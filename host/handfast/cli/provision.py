"""``handfast provision``: give boards their library, trust anchor, identity and application."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from handfast.admin_client import AdminClient
from handfast.boards.definition import load_boards
from handfast.boards.detached import find_detached
from handfast.boards.discovery import Found, find, scan
from handfast.boards.local_ports import local_ports
from handfast.boards.many import LibraryOnce, Outcome, provision_many
from handfast.boards.provision import Progress, Provisioned, provision
from handfast.cli import wifi
from handfast.cli.papers import Papers
from handfast.cli.progress import DONE, FAILED, progress_bars, progress_lines
from handfast.cli.provisioned import document, exit_code, print_many, print_one
from handfast.errors import BoardProblem, HandfastError, UsageError
from handfast.pki.names import validate_device_id
from handfast.state import StateDir

_AT_ONCE = 8  # the host's part is small: boards wait for their flash
# Ports on which a board was expected and none could be asked: with --all these are failures.
_AMISS = ("silent", "busy", "failed", "bootloader")


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
    "names",
    multiple=True,
    help="A name that `board scan` shows, a running simulated board's, or a serial port; "
    "give it more than once for several boards at a time.",
)
@click.option("--all", "every", is_flag=True, help="Every board that `board scan` finds.")
@click.option(
    "--at-once",
    type=click.IntRange(min=1, max=64),
    default=_AT_ONCE,
    show_default=True,
    help="How many boards at a time.",
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
    "ssids",
    metavar="SSID",
    multiple=True,
    help="A Wi-Fi network to join; give it more than once, the best first. Its password is taken "
    f"from ${wifi.ONE}, from ${wifi.MANY} (JSON, by SSID), from the keyring, or asked for.",
)
@click.option(
    "--remember-wifi", is_flag=True, help="Keep passwords that you type in this machine's keyring."
)
@click.option(
    "--label",
    "label_to",
    metavar="FILE|FOLDER|-",
    help="Write a label with the device_id as QR code: .svg (with both ids in words) or .png; a "
    "folder takes one .svg a board, - is the terminal.",
)
@click.option(
    "--record",
    "record_to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append a line for each board to this .csv or .jsonl file.",
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
    names: tuple[str, ...],
    every: bool,
    at_once: int,
    folder: Path | None,
    device_id: str | None,
    no_start: bool,
    no_token: bool,
    reseed: bool,
    ssids: tuple[str, ...],
    remember_wifi: bool,
    label_to: str | None,
    record_to: Path | None,
    ntp_host: str,
    secure_element: dict[str, Any] | None,
    ethernet: dict[str, Any] | None,
    rtc: dict[str, Any] | None,
    watchdog_s: int | None,
    as_json: bool,
) -> None:
    """Give boards their library, trust anchor, identity and application.

    May be run again: only what differs is copied, and a board's identity is kept. What a board runs
    changes in one step: unplug it at any time and it runs the old application or the new one.
    """
    several = every or len(names) > 1
    _check_choice(names, every=every, device_id=device_id)
    papers = Papers.begin(label_to, record_to, several=several, as_json=as_json)
    settings = {
        "device_id": device_id,
        "networks": wifi.passwords(ssids, remember=remember_wifi),
        "ntp_host": ntp_host,
        "secure_element": secure_element,
        "ethernet": ethernet,
        "rtc": rtc,
        "watchdog_s": watchdog_s,
        "start": not no_start,
        "token": not no_token,
        "reseed": reseed,
        "library": LibraryOnce(),
    }
    one = partial(_provision_one, StateDir.choose(folder), settings)
    if several:
        _several(_discovered() if every else (names, []), one, at_once, papers, as_json=as_json)
    else:
        _single(names[0], one, papers, as_json=as_json, started=not no_start)


# (board, progress) → what was done
_One = Callable[[str, Progress], Provisioned]


def _check_choice(names: Sequence[str], *, every: bool, device_id: str | None) -> None:
    if every == bool(names):
        raise UsageError("say which boards: --board NAME (more than once for several), or --all")
    if len(set(names)) != len(names):
        raise UsageError("a board is named twice")
    if device_id is not None:
        if every or len(names) > 1:
            raise UsageError("--device-id is for one board: several are named by their hardware")
        validate_device_id(device_id)


def _provision_one(
    state: StateDir, settings: dict[str, Any], board: str, progress: Progress
) -> Provisioned:
    return provision(serial_url(board), gateway=AdminClient(state), progress=progress, **settings)


def _single(board: str, one: _One, papers: Papers, *, as_json: bool, started: bool) -> None:
    try:
        with progress_bars(quiet=as_json) as tell:
            done = one(board, tell)
    except HandfastError as problem:
        papers.file(Outcome(board, problem=problem))
        raise
    papers.file(Outcome(board, done=done))
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        print_one(done, started=started)
        papers.show([done])


def _several(
    chosen: tuple[Sequence[str], list[Outcome]],
    one: _One,
    at_once: int,
    papers: Papers,
    *,
    as_json: bool,
) -> None:
    """Provision boards side by side; ends with an exit code that speaks for all of them."""
    names, outcomes = chosen
    for outcome in outcomes:
        papers.file(outcome)
    with progress_lines(names, quiet=as_json) as tell:

        def finished(outcome: Outcome) -> None:
            tell(outcome.board, FAILED if outcome.done is None else DONE, outcome.done is not None)
            papers.file(outcome)

        outcomes = outcomes + provision_many(
            names, one, at_once=at_once, tell=tell, finished=finished
        )
    if as_json:
        click.echo(json.dumps(document(outcomes)))
    else:
        print_many(outcomes)
        papers.show([outcome.done for outcome in outcomes if outcome.done is not None])
    raise click.exceptions.Exit(exit_code(outcomes))


def _discovered() -> tuple[list[str], list[Outcome]]:
    """Return the names of the boards that there are, and those that should be and do not answer.

    Raises:
        BoardProblem: there is none of either.
    """
    seen = scan(local_ports(), load_boards())
    names = [_name(found) for found in seen if found.state in ("found", "unknown")]
    amiss = [
        Outcome(found.port.url, problem=BoardProblem(found.problem or found.state))
        for found in seen
        if found.state in _AMISS
    ]
    if not names and not amiss:
        raise BoardProblem("no board is on any port: plug one in; `handfast board scan` says more")
    return names, amiss


def _name(found: Found) -> str:
    # A simulated board's name is its own; one without a definition has none, but may have a life.
    return found.name if found.name and found.port.usb else found.port.url


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
