"""The act about bad randomness: twins that draw the same octets, and a board that draws none."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from handfast.boards.console import Console
from handfast.boards.serial_link import SerialLink
from handfast.lab.demo.comeback import provision_and_switch_off
from handfast.lab.demo.expect import expect
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.keysearch import keys_in_flash
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.relay import Relay

_WITHIN_S = 30.0
# The application tries again 5 s after its first failure: the second is proof of a whole try more.
_TRIES = 2
_POLL_S = 0.1


def entropy(scene: Scene, report: Report, tell: Tell) -> None:
    """Play the act: both checks are about boards of its own."""
    with report.check("entropy: twins with replayed randomness make different keys") as seen:
        seen.append(_twins_differ(scene, tell))
    with report.check("entropy: a stuck source means no TLS at all") as seen:
        seen.append(_stuck_is_silent(scene, tell))


# ---- Twins ----


def _twins_differ(scene: Scene, tell: Tell) -> str:
    """One flash image in three boards whose random source gives all of them the same octets.

    One twin has the first board's chip id as well: nothing but timing is its own.
    """
    tell("twins: provision one, copy its flash")
    first = _provisioned(scene, "entropy-twin-1")
    image = first.board.flash_image
    same_chip = scene.board("entropy-twin-2", flash=image)
    same_chip.board.unique_id = first.board.unique_id
    twins = (first, same_chip, scene.board("entropy-twin-3", flash=image))
    inherited = _keys_of(first)
    expect(bool(inherited), "the flash image that was copied holds no IDevID key")

    tell("twins: enrol with the same random octets")
    with ExitStack() as running:
        for twin in twins:
            twin.board.entropy = "replayed"
        consoles = [running.enter_context(_running(twin)) for twin in twins]
        ways = [_enrolled_by(console) for console in consoles]

    made = [_keys_of(twin) - inherited for twin in twins]
    expect(all(made), "a twin enrolled without a key of its own in its flash")
    own = set[bytes]().union(*made)
    shared = sum(len(keys) for keys in made) - len(own)
    expect(shared == 0, f"twins made the same key, {shared} times over")
    registered = _registered_keys(scene, first.name)
    certified = all(registered & {hashlib.sha256(spki).hexdigest() for spki in k} for k in made)
    expect(certified, "a twin's own key is not the one that was certified for it")
    # The token is bound to the first key that used it; the others hold a copy of the IDevID.
    expect(sorted(ways) == ["idevid", "idevid", "token"], f"the twins enrolled by {ways}")
    return (
        f"{len(twins)} boards with one flash image and the same random octets, two of them with "
        f"one chip id: {len(own)} keys, none made twice; one token let one in"
    )


def _keys_of(board: DemoBoard) -> set[bytes]:
    return {key.spki for key in keys_in_flash(board.board.flash_image.read_bytes())}


def _enrolled_by(console: Console) -> str:
    return console.wait_for_event("enrolled", _WITHIN_S).fields.get("by", "")


def _registered_keys(scene: Scene, device_id: str) -> set[str]:
    rows = scene.admin.device(device_id)["certificates"]
    return {row["spki_sha256"] for row in rows if row["kind"] == "ldevid"}


# ---- A stuck source ----


def _stuck_is_silent(scene: Scene, tell: Tell) -> str:
    """A board with a stuck source, before and after it has enrolled, connects to nobody.

    Relays before both TLS listeners count what reaches them. The same flash image gets through
    them in between, with a sound source.
    """
    tell("stuck source: provision a board")
    relays = {setting: scene.relay(setting) for setting in ("api_url", "enrol_url")}
    urls = {name: relay.url for name, relay in relays.items()}
    board = _provisioned(scene, "entropy-stuck", config=urls)

    tell("stuck source: new board")
    said = _refuses(scene, board, relays)
    tell("stuck source: sound again")
    board.board.entropy = "host"
    with _running(board) as console:
        _enrolled_by(console)
        console.wait_for_event("telemetry", _WITHIN_S)
    counted = _counts(relays)
    expect(all(counted.values()), f"the relays saw {counted} connections of a board that works")
    tell("stuck source: enrolled board")
    said += _refuses(scene, board, relays)
    return (
        f"EntropyError {said} times on the console, no connection; in between, with a sound "
        f"source, {sum(counted.values())} connections by the same board"
    )


def _refuses(scene: Scene, board: DemoBoard, relays: Mapping[str, Relay]) -> int:
    """Run the board with a stuck source; return how often it said so, connecting to no relay."""
    before = _counts(relays)
    board.board.entropy = "stuck"
    deadline = time.monotonic() + _WITHIN_S
    with _running(board) as console:
        while (said := _complaints(console)) < _TRIES and time.monotonic() < deadline:
            _expect_silence(before, relays)
            scene.pause(_POLL_S)
    _expect_silence(before, relays)
    expect(said >= _TRIES, f"with a stuck source it said EntropyError {said} times")
    return said


def _complaints(console: Console) -> int:
    kinds = [event.fields.get("kind") for event in console.events("error")]
    return kinds.count("EntropyError")


def _expect_silence(before: Mapping[str, int], relays: Mapping[str, Relay]) -> None:
    now = _counts(relays)
    expect(now == before, f"with a stuck source it connected: {before} before, {now} after")


def _counts(relays: Mapping[str, Relay]) -> dict[str, int]:
    return {name: relay.connections for name, relay in relays.items()}


# ---- Boards ----


def _provisioned(scene: Scene, name: str, *, config: Mapping[str, str] | None = None) -> DemoBoard:
    """Return a board that has been provisioned and switched off before its application ran.

    ``config`` replaces settings that the gateway gave it.
    """
    board = scene.board(name)
    provision_and_switch_off(scene, board, config=config)
    return board


@contextmanager
def _running(board: DemoBoard) -> Iterator[Console]:
    """Let the board's application run, heard from its first line on; ends switched off."""
    with (
        SerialLink.open(board.board.serial_url, capture=board.capture) as link,
        link.console() as console,
    ):
        board.board.power_on()
        try:
            yield console
        finally:
            board.board.power_off()
