"""Devices that run on the host: EST clients (RFC 7030) like any other, and their TLS."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)

from handfast.errors import Refused, Unreachable
from handfast.lab.demo.key_pair import load_pair
from handfast.lab.demo.keysearch import Identity
from handfast.lab.demo.scene import Scene

_TIMEOUT_S = 20.0
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
    answer = _ask(scene, certificate_request(key), auth=(device_id, token))
    if answer.status_code != httpx.codes.OK:
        raise Refused(f"{device_id} was not enrolled: {answer.status_code} {answer.text}")
    issued = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
    if len(issued) != 1 or issued[0].public_key() != key.public_key():
        raise Refused(f"{device_id} was not given one certificate for its key")
    return Identity(key, issued[0])


def _ask(scene: Scene, request: bytes, *, auth: tuple[str, str]) -> httpx.Response:
    context = client_context(scene.certificates()["root"], scratch=scene.folder)
    try:
        with httpx.Client(verify=context, timeout=_TIMEOUT_S, trust_env=False) as client:
            return client.post(
                f"{scene.gateway.urls['enrol']}/.well-known/est/simpleenroll",
                content=base64.b64encode(request),
                headers={"content-type": "application/pkcs10"},
                auth=auth,
            )
    except httpx.TransportError as error:
        raise Unreachable(f"the enrol listener does not answer: {error}") from error


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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trust.public_bytes(Encoding.DER))
    if identity is not None:
        key = identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        load_pair(context, identity.certificate.public_bytes(Encoding.DER), key, scratch=scratch)
    return context
