"""What the demo promises, promise by promise; each function asks and says what it saw.

A function returns one sentence about what it saw, or raises :class:`~handfast.errors.CheckFailed`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_bytes
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.admin_client import AdminClient
from handfast.lab.demo.expect import expect, how_many
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.gateway_log import log_lines, wait_for_line
from handfast.lab.demo.intruders.attempt import Attempt, Expected
from handfast.lab.demo.intruders.client import Client
from handfast.lab.demo.intruders.forge import pair
from handfast.lab.demo.keysearch import (
    Identity,
    find_leaks,
    identities_in_flash,
    keys_in_flash,
    plant,
)

# A board that wakes at its epoch shows seconds since power-on; a set clock shows decades.
_JUST_WOKEN_S = 600
# TSA times are whole seconds, and the line about it crosses a serial port.
_CLOCK_TOLERANCE_S = 3
_REVOKED = "urn:handfast:error:device-revoked"
_REFUSALS = (401, 403)
_REFUSED_WITHIN_S = 30.0


def clocks_were_signed(boards: Sequence[DemoBoard]) -> str:
    """Each board woke at its epoch and set its clock from a signed time stamp."""
    worst = 0.0
    for board in boards:
        expect(0 <= board.woke_at < _JUST_WOKEN_S, f"{board.name} woke with {board.woke_at:.0f}")
        first = board.console.wait_for_event("clock", timeout_s=1)
        source = first.fields.get("source")
        expect(source == "tsa", f"{board.name} has its time from {source}")
        off = abs(float(first.fields["time"]) - first.line.at.timestamp())
        expect(off <= _CLOCK_TOLERANCE_S, f"{board.name} is {off:.1f} s off")
        worst = max(worst, off)
    return f"{how_many(boards)} woke at the epoch; RFC 3161 time within {worst:.1f} s"


def enrolled_with_own_keys(gateway: AdminClient, boards: Sequence[DemoBoard]) -> str:
    """Each board's current leaf is for a key that is in its own flash and in no other's."""
    owners: Counter[bytes] = Counter()
    for board in boards:
        events = board.enrolments()
        expect(bool(events), f"{board.name} never enrolled")
        expect(events[0].fields.get("by") == "token", f"{board.name} did not enrol by its token")
        in_flash = {_fingerprint(i.certificate) for i in _identities(board)}
        live = [c for c in gateway.device(board.name)["certificates"] if c["state"] == "current"]
        ours = [c for c in live if c["kind"] == "ldevid"]
        expect(len(ours) == 1, f"{board.name} has {len(ours)} active leaves")
        expect(ours[0]["sha256"] in in_flash, f"{board.name} has no key for its active leaf")
        owners.update(key.spki for key in keys_in_flash(board.board.flash_image.read_bytes()))
    expect(max(owners.values()) == 1, "two boards hold the same key")
    return f"{how_many(boards)}, {len(owners)} keys, each on one board only"


def _identities(board: DemoBoard) -> list[Identity]:
    return identities_in_flash(board.board.flash_image.read_bytes())


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def renewed_with_fresh_keys(gateway: AdminClient, boards: Sequence[DemoBoard], least: int) -> str:
    """Each board renewed often enough, each time with another key."""
    for board in boards:
        renewals = len(board.renewals())
        expect(renewals >= least, f"{board.name} renewed {renewals} times, not {least}")
        leaves = [c for c in gateway.device(board.name)["certificates"] if c["kind"] == "ldevid"]
        keys = {leaf["spki_sha256"] for leaf in leaves}
        expect(len(leaves) > renewals, f"{board.name} has {len(leaves)} leaves in the registry")
        expect(len(keys) == len(leaves), f"{board.name} used a key for two leaves")
    total = sum(len(board.renewals()) for board in boards)
    return f"{total} renewals, at least {least} a board, each with a fresh key"


def intruder_is_refused(
    url: str, log: Path, *, trust: x509.Certificate, identity: Identity, reason: str
) -> str:
    """A client that must not get in at the API does not, and the log says why."""
    start = log.stat().st_size
    root = trust.public_bytes(Encoding.PEM).decode()
    stolen = pair("stolen", identity.certificate, identity.key)
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        client = Client({"api": url}, root, source="127.0.0.1", scratch=Path(scratch))
        answer = client.make(Attempt("api", "GET", "/v1/ping", Expected(reason), stolen))
    expect(answer.status in (None, *_REFUSALS), f"it got in: {answer}")
    line = wait_for_line(log, start, lambda line: _is_from(line, answer.peer)) or {}
    said = line.get("reason") or line.get("slug") or "nothing"
    expect(said == reason, f"refused ({answer}), but the log says {said} and not {reason}")
    return f"{answer}; logged as {reason}"


def _is_from(line: dict[str, Any], peer: str) -> bool:
    return (line.get("listener"), line.get("peer")) == ("api", peer)


def revoked_within_one_request(gateway: AdminClient, boards: Sequence[DemoBoard], log: Path) -> str:
    """From the moment ``revoke`` returns, not one request of the device is answered."""
    for board in boards:
        _revoke(gateway, board, log)
    return f"{how_many(boards)}, first request after revoke refused each time"


def _revoke(gateway: AdminClient, board: DemoBoard, log: Path) -> None:
    line, offset = board.console.last_number, log.stat().st_size
    gateway.revoke(board.name)
    revoked_at = datetime.now(UTC)
    # A handshake that the revocation cut off comes first where one was under way: no reason yet.
    board.console.wait_for_event(
        "refused", _REFUSED_WITHIN_S, after=line, where=lambda e: e.fields.get("type") == _REVOKED
    )
    # The answer is with the board before its line is in the log.
    logged = wait_for_line(log, offset, lambda entry: _is_of(board, entry) and _refused(entry))
    expect(logged is not None, f"{board.name}'s refusal is not in the log")
    requests = [entry for entry in log_lines(log, offset) if _is_of(board, entry)]
    late = [r for r in requests if _served(r) and _logged_at(r) > revoked_at]
    expect(not late, f"{board.name} was served {len(late)} times after revoke")


def _is_of(board: DemoBoard, entry: dict[str, Any]) -> bool:
    return entry.get("event") == "request" and entry.get("device_id") == board.name


def _refused(request: dict[str, Any]) -> bool:
    return bool(_REVOKED.endswith(":" + str(request.get("slug"))))


def _served(request: dict[str, Any]) -> bool:
    status = request.get("status")  # none where the connection ended before an answer
    return status is not None and int(status) < 400


def _logged_at(request: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(request["timestamp"])


def keys_stayed_on_their_boards(
    secrets: Sequence[bytes], elsewhere: Iterable[Path], scratch: Path
) -> str:
    """No private key of a board is in any file but its flash image, and the search can find.

    Args:
        secrets: the boards' keys, as 32-byte scalars.
        elsewhere: the files to search; what is no file is passed over.
        scratch: an empty folder, to plant a key of no board in.
    """
    expect(bool(secrets), "no key was ever seen in a flash image")
    files = [path for path in elsewhere if path.is_file() and not path.is_symlink()]
    expect(bool(files), "there is nothing to search")
    decoy = token_bytes(len(secrets[0]))
    planted = plant(decoy, scratch)
    found = {(leak.form, leak.path) for leak in find_leaks([decoy], planted.values())}
    missed = sorted(form for form, path in planted.items() if (form, path) not in found)
    expect(not missed, f"the search is blind to a planted key as {', '.join(missed)}")
    leaks = find_leaks(secrets, files)
    expect(not leaks, "; ".join(f"a key stands as {leak.form} in {leak.path}" for leak in leaks))
    size_kb = sum(path.stat().st_size for path in files) // 1024
    return (
        f"{len(secrets)} keys looked for in {len(files)} files ({size_kb} KB): none; "
        f"planted in {len(planted)} forms: all found"
    )
