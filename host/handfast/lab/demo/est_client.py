"""Devices that run on the host: EST clients (RFC 7030) like any other, and their TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from handfast.est_client import simpleenroll, trust_only
from handfast.lab.demo.key_pair import load_pair
from handfast.lab.demo.keysearch import Identity
from handfast.lab.demo.scene import Scene

TOKEN_LIFETIME_S = 600


def enrol_new(scene: Scene, device_id: str) -> Identity:
    """Register a device and enrol it by a one-time token.

    Raises:
        Refused: the gateway does not issue, or not one certificate for this key.
        Unreachable: it does not answer.
    """
    scene.admin.add_device(device_id)
    token = scene.admin.create_token(device_id, lifetime_s=TOKEN_LIFETIME_S)["token"]
    key = ec.generate_private_key(ec.SECP256R1())
    issued = simpleenroll(
        scene.gateway.urls["enrol"],
        certificate_request(key),
        device_id=device_id,
        token=token,
        roots=[scene.certificates()["root"].public_bytes(Encoding.DER)],
    )
    return Identity(key, issued)


def certificate_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a PKCS#10 request (DER) for a key; the registry says what the names are."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def client_context(
    trust: x509.Certificate, identity: Identity | None = None, *, scratch: Path
) -> ssl.SSLContext:
    """Return a TLS client's settings: what it trusts, and who it is.

    Args:
        trust: the root.
        identity: what it shows; nothing by default.
        scratch: the folder that its key passes through, see :func:`load_pair`.
    """
    context = trust_only([trust.public_bytes(Encoding.DER)])
    if identity is not None:
        key = identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        load_pair(context, identity.certificate.public_bytes(Encoding.DER), key, scratch=scratch)
    return context
