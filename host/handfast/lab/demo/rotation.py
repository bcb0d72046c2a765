"""Certificates rotate under load: on the boards, and at the gateway."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from handfast.errors import CheckFailed
from handfast.lab.demo.checks import expect, how_many, intruder_is_refused
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.keysearch import Identity, identities_in_flash
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.parallel import in_parallel

_CONNECT_S = 10.0
# A leaf that ends sooner could have ended by the time it is tried.
_LEAST_LEFT_S = 0.5
_POLL_S = 0.1
_FIRST_WITHIN_S = 60.0  # many boards on two cores enrol one after the other


def swap_the_gateways_leaf(scene: Scene) -> str:
    """Renew the gateway's own leaves while boards call; the next handshake shows the new one."""
    before = _leaf_of(scene.gateway.urls["enrol"])
    scene.admin.renew_leaf()
    after = _leaf_of(scene.gateway.urls["enrol"])
    expect(before.serial_number != after.serial_number, "the gateway still shows its old leaf")
    expect(before.public_key() != after.public_key(), "the new leaf is for the old key")
    return f"{before.serial_number:x}"[:8] + " → " + f"{after.serial_number:x}"[:8] + ", key too"


def _leaf_of(url: str) -> x509.Certificate:
    """Return the leaf that a listener shows; who it is does not matter here."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{url} names no host and port")
    pem = ssl.get_server_certificate((parts.hostname, parts.port), timeout=_CONNECT_S)
    return x509.load_pem_x509_certificate(pem.encode())


def superseded_leaves(
    scene: Scene, report: Report, tell: Tell, *, boards: Sequence[DemoBoard]
) -> None:
    """Try each board's superseded leaf after the overlap: refused as such, not as expired."""
    tell("waits for renewals")
    with report.check("rotation: the old leaf is refused after the overlap") as seen:
        in_parallel(lambda board: _superseded_is_refused(scene, board), boards)
        seen.append(
            f"{how_many(boards)}, one leaf each, tried with its own key {scene.overlap_s} s after "
            "the switch and before its end; logged as certificate-superseded"
        )
    tell(f"{how_many(boards)} tried")


def _superseded_is_refused(scene: Scene, board: DemoBoard) -> None:
    intruder_is_refused(
        scene.gateway.urls["api"],
        scene.log,
        trust=scene.certificates()["root"],
        identity=_superseded_identity(scene, board),
        reason="certificate-superseded",
    )


def _superseded_identity(scene: Scene, board: DemoBoard) -> Identity:
    """Wait for a leaf that is past its overlap but not past its end; take it from the flash."""
    deadline = time.monotonic() + scene.lifetime_s * 2 + _FIRST_WITHIN_S
    while time.monotonic() < deadline:
        now = time.time()
        rows = scene.admin.device(board.name)["certificates"]
        past = {
            row["sha256"]
            for row in rows
            if row["state"] == "superseded"
            and row["switched_at"] + scene.overlap_s <= now
            and now < row["not_after"] - _LEAST_LEFT_S
        }
        for identity in identities_in_flash(board.board.flash_image.read_bytes()):
            if identity.certificate.fingerprint(hashes.SHA256()).hex() in past:
                return identity
        scene.pause(_POLL_S)
    raise CheckFailed(f"{board.name} has no leaf between its overlap's end and its own")
