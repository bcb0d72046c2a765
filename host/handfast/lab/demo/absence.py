"""A board that was away for too long: its operational certificate has ended meanwhile."""

from __future__ import annotations

import time
from typing import Any

from cryptography.hazmat.primitives import hashes

from handfast.errors import CheckFailed
from handfast.lab.demo.checks import intruder_is_refused
from handfast.lab.demo.comeback import (
    Boot,
    Vigil,
    boot,
    expect_back_alone,
    provision_and_switch_off,
    wakes_at,
)
from handfast.lab.demo.expect import expect
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.keysearch import Identity, identities_in_flash
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell

# Certificates end at whole seconds.
_BEYOND_S = 1.1


def long_absence(scene: Scene, report: Report, tell: Tell) -> None:
    """Keep a board off past its certificate's end: it comes back by its IDevID, with a new key."""
    with report.check("long absence: back by the IDevID") as seen:
        board = scene.board("board-absent")
        tell("enrols by its token")
        provision_and_switch_off(scene, board)
        first = boot(scene, board, rtc=wakes_at(board))
        expect(_enrolled_by(first) == ["token"], "the board did not enrol by its token")
        before = _current_leaf(scene, board)
        vigil = Vigil(scene, board)
        tell(f"is off until its certificate has ended, {scene.lifetime_s} s")
        scene.pause(max(0.0, before["not_after"] + _BEYOND_S - time.time()))
        tell("tries the old certificate")
        refused = intruder_is_refused(
            scene.gateway.urls["api"],
            scene.log,
            trust=scene.certificates()["root"],
            identity=_identity(board, before["sha256"]),
            reason="certificate-expired",
        )
        tell("comes back")
        returned = boot(scene, board, rtc=wakes_at(board))
        expect_back_alone(vigil.aftermath(returned))
        expect(_enrolled_by(returned) == ["idevid"], "the board did not come back by its IDevID")
        _expect_fresh(before, _current_leaf(scene, board))
        seen.append(
            f"off past its leaf's end, clock and RAM lost; the old leaf: {refused}; back by its "
            "IDevID with a fresh key, without a token, without help"
        )
        tell("is back")


def _enrolled_by(boot: Boot) -> list[str]:
    return [event.fields.get("by", "") for event in boot.named("enrolled")]


def _current_leaf(scene: Scene, board: DemoBoard) -> dict[str, Any]:
    """Return the registry's row of the one leaf that the board uses."""
    registered = scene.admin.device(board.name)
    unused = [token for token in registered["tokens"] if token["used"] is None]
    expect(not unused, f"{board.name} has a token left that it could have come in by")
    rows = [
        row
        for row in registered["certificates"]
        if row["kind"] == "ldevid" and row["state"] == "current"
    ]
    expect(len(rows) == 1, f"{board.name} has {len(rows)} current leaves")
    return dict(rows[0])


def _identity(board: DemoBoard, sha256: str) -> Identity:
    for identity in identities_in_flash(board.board.flash_image.read_bytes()):
        if identity.certificate.fingerprint(hashes.SHA256()).hex() == sha256:
            return identity
    raise CheckFailed(f"{board.name} has no key for its leaf in its flash")


def _expect_fresh(before: dict[str, Any], after: dict[str, Any]) -> None:
    expect(after["sha256"] != before["sha256"], "the board still uses its old leaf")
    expect(after["spki_sha256"] != before["spki_sha256"], "its new leaf is for its old key")
