"""Boards whose power fails: boot them, and tell whether they came back alone.

What a board says of itself is not enough: the gateway's log, registry and audit decide, and the
keys in the board's own flash.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import hashes

from handfast.boards.console import Event, Line, parse_event
from handfast.boards.identify import literal
from handfast.boards.serial_link import SerialLink
from handfast.errors import CheckFailed
from handfast.lab.demo.expect import all_telemetry, expect
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.gateway_log import log_lines
from handfast.lab.demo.keysearch import identities_in_flash
from handfast.lab.demo.scene import Scene

BOOT_WITHIN_S = 30.0  # two seconds at most, unless the machine is busy
_LOGGED_WITHIN_S = 5.0
_READ_S = 0.02
_LOOK = """
import os
from binascii import hexlify
from hashlib import sha256
from mtls.store import Store
store = Store()
pointer = store.current()
named = pointer and store.identity(pointer)
leaf = named and hexlify(sha256(named.cert_der).digest()).decode()
print(repr(([name for name in os.listdir("/mtls") if name.endswith(".new")], leaf)))
"""
_LAST_LINES = 4
# A leaf before and after its first request, until its successor makes one.
IN_USE = ("pending", "current")
# The log has the first octets of a certificate's SHA-256.
_LOGGED_DIGITS = 16
# What a board alone brings about in the audit; everything else is somebody's help.
_ITS_OWN_DOING = {"issued", "switched", "token-refused", "key-reused"}


@dataclass(frozen=True, slots=True)
class Sign:
    """What a board prints once it has done what it was given power for, and what that is called."""

    pattern: re.Pattern[str]
    name: str


REPORTED = Sign(
    re.compile(r"mtls: telemetry [^\n]*status=200[^\n]*\n"),
    "report acknowledged",
)


@dataclass(frozen=True, slots=True)
class Boot:
    """One time that a board had power.

    Attributes:
        events: what its application said.
        power_was_cut: in the middle of a flash operation, as asked for.
        log_start: how long the gateway's log was when the power came.
    """

    events: tuple[Event, ...]
    power_was_cut: bool
    log_start: int

    def named(self, name: str) -> list[Event]:
        """Return the events of that name."""
        return [event for event in self.events if event.name == name]

    @property
    def boot_id(self) -> str:
        """What the board calls this boot; "" if its power failed before it could say."""
        return next((event.fields.get("boot_id", "") for event in self.named("boot")), "")

    @property
    def reported(self) -> list[tuple[str, int]]:
        """(boot_id, seq) of each report that the application saw acknowledged."""
        acknowledged = (e for e in self.named("telemetry") if e.fields.get("status") == "200")
        return [(self.boot_id, int(event.fields["seq"])) for event in acknowledged]


def provision_and_switch_off(
    scene: Scene,
    board: DemoBoard,
    *,
    config: Mapping[str, str | int] | None = None,
    change: Callable[[SerialLink], None] = lambda _: None,
) -> None:
    """Give a new board all that it needs, a token too; its application has not run yet.

    Args:
        scene: where the board is.
        board: switched off, as it is again afterwards.
        config: settings in place of those that the gateway gives.
        change: is done to the board over its REPL at the end.
    """
    with powered(board):
        board.provision(scene.admin, config=config)
        with SerialLink.open(board.board.serial_url, capture=board.capture) as link:
            change(link)


@contextmanager
def powered(
    board: DemoBoard,
    *,
    rtc: int | None = None,
    cut_after: int | None = None,
    torn: bool = True,
) -> Iterator[None]:
    """Give the board power for as long as the block lasts, however it ends."""
    board.board.power_on(rtc=rtc, cut_after=cut_after, torn=torn)
    try:
        yield
    finally:
        board.board.power_off()


def wakes_at(board: DemoBoard) -> int:
    """Return what the board's clock shows after a loss of power, in unix seconds."""
    definition = board.board.definition
    made = definition.simulator or definition.emulator
    return int(datetime(made.epoch if made else 1970, 1, 1, tzinfo=UTC).timestamp())


def boot(
    scene: Scene,
    board: DemoBoard,
    *,
    rtc: int,
    cut_after: int | None = None,
    torn: bool = True,
    sign: Sign = REPORTED,
    within_s: float | None = None,
) -> Boot:
    """Give the board power until its first report is acknowledged, or until the cut.

    Args:
        scene: where the board is.
        board: switched off, as it is again afterwards.
        rtc: what its clock shows at first, in unix seconds.
        cut_after: the power fails in the middle of the flash operation after that many.
        torn: False lets it fail just before that operation.
        sign: what ends the boot, if it is not the first report.
        within_s: how long that may take; :data:`BOOT_WITHIN_S` by default.

    Raises:
        CheckFailed: neither in that time, or the board ended by itself.
    """
    within_s = BOOT_WITHIN_S if within_s is None else within_s
    log_start = scene.log.stat().st_size
    with SerialLink.open(board.board.serial_url, capture=board.capture) as link:
        with powered(board, rtc=rtc, cut_after=cut_after, torn=torn):
            text = _listen(scene, board, link, sign, within_s)
            was_cut = board.board.power_was_cut
        while more := link.read_console(_READ_S):  # what it said last is still in the line
            text += more
    lines = text.rpartition("\n")[0].splitlines()
    if not was_cut and not sign.pattern.search(text):
        last = " / ".join(lines[-_LAST_LINES:]) or "nothing"
        raise CheckFailed(f"no {sign.name} in {within_s:g} s; it said: {last}")
    now = datetime.now(UTC)
    events = (parse_event(Line(number, now, line)) for number, line in enumerate(lines, 1))
    return Boot(tuple(event for event in events if event is not None), was_cut, log_start)


def _listen(scene: Scene, board: DemoBoard, link: SerialLink, sign: Sign, within_s: float) -> str:
    """Return what the board printed up to the sign, its end, or the end of patience."""
    deadline = time.monotonic() + within_s
    text = ""
    while board.board.is_running and time.monotonic() < deadline:
        text += link.read_console(_READ_S)
        if sign.pattern.search(text):
            break
        scene.pause(0)
    return text


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What there is to judge a board's return by.

    Attributes:
        boot_id: what the board calls its boot.
        requests: the gateway's log of its requests since the power came back.
        stored: boot_ids of the reports that the gateway has stored.
        audited: events in the gateway's audit since the power failed.
        own: SHA-256 (hex) of each certificate whose private key is in the board's flash.
    """

    boot_id: str
    requests: Sequence[Mapping[str, Any]]
    stored: Collection[str]
    audited: Sequence[str]
    own: Collection[str]


def expect_back_alone(seen: Aftermath) -> None:
    """Hold a return against its promise: a new authorised request, by an own key, without help.

    Raises:
        CheckFailed: it was not so.
    """
    served = [entry for entry in seen.requests if _is_served(entry)]
    expect(bool(served), "not one request was authorised since the power came back")
    own = {sha256[:_LOGGED_DIGITS] for sha256 in seen.own}
    strange = sorted({str(entry.get("certificate")) for entry in served} - own)
    expect(not strange, f"a request came by {', '.join(strange)}, whose key is not in its flash")
    expect(seen.boot_id in seen.stored, f"nothing is stored of its boot {seen.boot_id or '?'}")
    help_it_had = sorted(set(seen.audited) - _ITS_OWN_DOING)
    expect(not help_it_had, f"it had help: {', '.join(help_it_had)}")


def _is_served(entry: Mapping[str, Any]) -> bool:
    return entry.get("listener") == "api" and 200 <= (entry.get("status") or 0) < 300


class Vigil:
    """Stands beside a board from the moment that its power failed."""

    def __init__(self, scene: Scene, board: DemoBoard) -> None:
        self._scene = scene
        self._board = board
        self._audited = self._audit_ids()

    def _audit_ids(self) -> set[int]:
        return {row["id"] for row in self._scene.admin.audit(self._board.name)}

    def aftermath(self, returned: Boot) -> Aftermath:
        """Gather what the gateway knows of a boot that has ended, and what the flash holds."""
        admin, name = self._scene.admin, self._board.name
        return Aftermath(
            boot_id=returned.boot_id,
            requests=self._requests(returned),
            stored={row["boot_id"] for row in all_telemetry(admin, name)},
            audited=[r["event"] for r in admin.audit(name) if r["id"] not in self._audited],
            own=own_certificates(self._board),
        )

    def _requests(self, returned: Boot) -> list[dict[str, Any]]:
        """Wait for the log: an answer is with the board before its line is written."""
        deadline = time.monotonic() + _LOGGED_WITHIN_S
        while True:
            entries = [
                entry
                for entry in log_lines(self._scene.log, returned.log_start)
                if entry.get("event") == "request" and entry.get("device_id") == self._board.name
            ]
            if any(map(_is_served, entries)) or time.monotonic() > deadline:
                return entries
            self._scene.pause(_READ_S)


def own_certificates(board: DemoBoard) -> set[str]:
    """Return the SHA-256 (hex) of each certificate that lies in the flash beside its own key."""
    found = identities_in_flash(board.board.flash_image.read_bytes())
    return {
        identity.certificate.fingerprint(hashes.SHA256()).hex()
        for identity in found
        if identity.key.public_key() == identity.certificate.public_key()
    }


def left_on_flash(link: SerialLink) -> tuple[list[str], str | None]:
    """Return the names of temporary files, and the SHA-256 (hex) of the leaf that is pointed to."""
    temporary, leaf = literal(link, _LOOK)
    return temporary, leaf
