"""The devices of a wave: registered for it, and enrolled over EST as any client would be."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from handfast.admin_client import AdminClient
from handfast.lab.demo.est_client import TOKEN_LIFETIME_S
from handfast.lab.demo.intruders.attempt import Attempt, Credential, Expected, Names
from handfast.lab.demo.intruders.client import Client
from handfast.lab.demo.intruders.forge import csr, new_key, pair
from handfast.pki.names import device_subject, device_uri

EST = "/.well-known/est/"


@dataclass(frozen=True, slots=True)
class Device:
    """One registered device and everything that a thief of it would have.

    Attributes:
        device_id: its name.
        uri: the URI in its certificates.
        leaf: its current operational certificate.
        superseded: the one before.
        idevid: its factory certificate.
        used_token: what it first enrolled with.
        tokens: more of them, not used yet.
        switched_at: when ``leaf`` was first used, at the latest (unix seconds).
    """

    device_id: str
    uri: str
    leaf: Credential
    superseded: Credential
    idevid: Credential
    used_token: str = field(repr=False)
    tokens: Sequence[str] = field(repr=False)
    switched_at: float

    @property
    def names(self) -> Names:
        """What a certificate of it must say, whoever asks for it and however."""
        subject = device_subject(self.device_id, None).rfc4514_string()
        return Names(subject, (f"UniformResourceIdentifier:{self.uri}",))


def basic(device_id: str, token: str) -> tuple[str, str]:
    """Return the header that presents a token (RFC 7617)."""
    encoded = base64.b64encode(f"{device_id}:{token}".encode()).decode()
    return ("authorization", f"Basic {encoded}")


def token_in(headers: Sequence[tuple[str, str]]) -> str:
    """Return the token that :func:`basic` put into a header; empty if there is none."""
    for name, value in headers:
        if name == "authorization":
            return base64.b64decode(value.removeprefix("Basic ")).decode().partition(":")[2]
    return ""


def est_request(
    operation: str,
    request: bytes,
    expected: Expected,
    *,
    credential: Credential | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Attempt:
    """Return an enrolment with a certificate request (DER)."""
    return Attempt(
        "enrol",
        "POST",
        EST + operation,
        expected,
        credential=credential,
        headers=(("content-type", "application/pkcs10"), *headers),
        body=base64.b64encode(request),
    )


class Enroller:
    """Registers devices and takes them through their first certificates.

    Args:
        admin: of the gateway.
        client: with it the device calls; several threads may use it at once.
        trust_domain: stands in the certificates.
    """

    def __init__(self, admin: AdminClient, client: Client, trust_domain: str) -> None:
        self._admin = admin
        self._client = client
        self._trust_domain = trust_domain

    def enrol(self, device_id: str, *, tokens: int = 1) -> Device:
        """Register a device; enrol it by token, use the leaf, renew it, use the new one.

        Raises:
            HandfastError: the gateway did not do as it should.
        """
        self._admin.add_device(device_id)
        used, *unused = (self._token(device_id) for _ in range(1 + tokens))
        by_token = (basic(device_id, used),)
        first = self._new_leaf(device_id, "first", "simpleenroll", headers=by_token)
        self._use(first)
        second = self._new_leaf(device_id, "second", "simplereenroll", credential=first)
        self._use(second)
        return Device(
            device_id=device_id,
            uri=device_uri(self._trust_domain, device_id),
            leaf=second,
            superseded=first,
            idevid=self._idevid(device_id),
            used_token=used,
            tokens=unused,
            switched_at=time.time(),
        )

    def _token(self, device_id: str) -> str:
        token: str = self._admin.create_token(device_id, lifetime_s=TOKEN_LIFETIME_S)["token"]
        return token

    def _new_leaf(
        self,
        device_id: str,
        name: str,
        operation: str,
        *,
        credential: Credential | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Credential:
        key = new_key()
        request = est_request(
            operation,
            csr(device_id, key=key),
            Expected(),
            credential=credential,
            headers=headers,
        )
        body = base64.b64decode(self._client.fetch(request))
        (certificate,) = pkcs7.load_der_pkcs7_certificates(body)
        ends = certificate.not_valid_after_utc.timestamp()
        return pair(f"{device_id} {name}", certificate, key, ends=ends)

    def _use(self, leaf: Credential) -> None:
        self._client.fetch(Attempt("api", "GET", "/v1/ping", Expected(), credential=leaf))

    def _idevid(self, device_id: str) -> Credential:
        key = new_key()
        der = self._admin.issue_idevid(device_id, csr(device_id, key=key))
        return pair(f"{device_id} idevid", x509.load_der_x509_certificate(der), key)
