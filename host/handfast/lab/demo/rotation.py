"""Certificates rotate under load: on the boards, and at the gateway."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from OpenSSL.crypto import X509

from handfast.errors import CheckFailed
from handfast.lab.demo.checks import intruder_is_refused
from handfast.lab.demo.expect import expect, how_many
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.keysearch import Identity, identities_in_flash
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.parallel import in_parallel

_CONNECT_S = 10
_SUITES = {"RSA": b"ECDHE-RSA-AES128-GCM-SHA256", "P-256": b"ECDHE-ECDSA-AES128-GCM-SHA256"}
# A leaf that ends sooner could have ended by the time it is tried.
_LEAST_LEFT_S = 0.5
_POLL_S = 0.1
_FIRST_WITHIN_S = 60.0  # many boards on two cores enrol one after the other


def swap_the_gateways_leaf(scene: Scene) -> str:
    """Renew the gateway's own leaves while boards call; the next handshake shows the new ones."""
    before = _leaves(scene)
    scene.admin.renew_leaf()
    after = _leaves(scene)
    for where, old in before.items():
        new = after[where]
        expect(old.serial_number != new.serial_number, f"{where}: the old leaf is still shown")
        expect(old.public_key() != new.public_key(), f"{where}: the new leaf is for the old key")
    return f"{', '.join(before)}: another leaf each, and another key"


def _leaves(scene: Scene) -> dict[str, x509.Certificate]:
    """Return what either listener shows to boards and to everyone else (DESIGN 5)."""
    return {
        f"{kind} at {listener}": _leaf_of(scene.gateway.urls[listener], suite)
        for listener in ("api", "enrol")
        for kind, suite in _SUITES.items()
    }


def _leaf_of(url: str, suite: bytes) -> x509.Certificate:
    """Return the leaf that is shown to a client which knows this suite only."""
    shown: list[x509.Certificate] = []

    def look(_: SSL.Connection, certificate: X509, _code: int, depth: int, _ok: int) -> bool:
        if depth == 0:
            shown.append(certificate.to_cryptography())
        return True  # who it is does not matter here

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(suite)
    context.set_verify(SSL.VERIFY_PEER, look)
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), _CONNECT_S) as raw:
        raw.setblocking(True)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _CONNECT_S, 0))
        connection = SSL.Connection(context, raw)
        connection.set_connect_state()
        with suppress(SSL.Error):  # the API wants a certificate of us, after it has shown its own
            connection.do_handshake()
    expect(bool(shown), f"no leaf is shown at {url}")
    return shown[0]


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
    deadline = time.monotonic() + scene.lifetime_s * 2 + _FIRST_WITHIN_S
    while True:
        identity = _superseded_identity(scene, board, deadline)
        try:
            intruder_is_refused(
                scene.gateway.urls["api"],
                scene.log,
                trust=scene.certificates()["root"],
                identity=identity,
                reason="certificate-superseded",
            )
        except CheckFailed:
            if datetime.now(UTC) <= identity.certificate.not_valid_after_utc:
                raise
        else:
            return  # otherwise it took so long that the leaf has ended: the next one, then


def _superseded_identity(scene: Scene, board: DemoBoard, deadline: float) -> Identity:
    """Wait for a leaf that is past its overlap but not past its end; take it from the flash."""
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
        found = identities_in_flash(board.board.flash_image.read_bytes()) if past else []
        for identity in found:
            if identity.certificate.fingerprint(hashes.SHA256()).hex() in past:
                return identity
        scene.pause(_POLL_S)
    raise CheckFailed(f"{board.name} has no leaf between its overlap's end and its own")
