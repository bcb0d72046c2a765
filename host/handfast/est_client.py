"""Client of an EST server (RFC 7030): asks it to certify a key that somebody else holds."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Sequence

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from handfast.errors import Refused, Unreachable
from handfast.pki.csr import parse_csr
from handfast.wire import PROBLEM_TYPE_PREFIX

_TIMEOUT_S = 30.0
_MEDIA_TYPE = "application/pkcs7-mime"
_LONGEST_REASON = 300


class EstRefused(Refused):
    """The EST server refused; ``slug`` is its problem's stable name, "" where it gave none."""

    def __init__(self, message: str, *, slug: str, status: int) -> None:
        super().__init__(message)
        self.slug = slug
        self.status = status


def simpleenroll(
    url: str, csr_der: bytes, *, device_id: str, token: str, roots: Sequence[bytes]
) -> x509.Certificate:
    """Have a key certified by a one-time token (RFC 7030 §4.2.1, with HTTP Basic of §3.2.3).

    Args:
        url: of the enrol listener, without a path.
        csr_der: the PKCS#10 request; the answer must be for its key.
        device_id: the user name.
        token: the password.
        roots: in DER; the server must chain to one of them, no other CA is trusted.

    Raises:
        EstRefused: the server does not issue.
        Refused: it answers something else than one certificate for the request's key.
        Unreachable: it does not answer, or is not the server that the roots vouch for.
    """
    asked = parse_csr(csr_der).public_key
    answer = _post(f"{url}/.well-known/est/simpleenroll", csr_der, (device_id, token), roots)
    if answer.status_code != httpx.codes.OK:
        raise _refusal(answer, device_id)
    issued = _certificates(answer)
    if len(issued) != 1 or issued[0].public_key() != asked:
        raise Refused(
            f"{url} did not answer with one certificate for the key of the request: "
            "nothing was kept; look at the gateway's log"
        )
    return issued[0]


def trust_only(roots: Sequence[bytes]) -> ssl.SSLContext:
    """Return a TLS client's settings that trust these roots (DER) and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for root in roots:
        context.load_verify_locations(cadata=root)
    return context


def _post(
    url: str, csr_der: bytes, auth: tuple[str, str], roots: Sequence[bytes]
) -> httpx.Response:
    try:
        with httpx.Client(verify=trust_only(roots), timeout=_TIMEOUT_S, trust_env=False) as client:
            return client.post(
                url,
                content=base64.b64encode(csr_der),
                headers={"content-type": "application/pkcs10"},
                auth=auth,
            )
    except httpx.HTTPError as error:
        raise Unreachable(
            f"the enrol listener at {url} cannot be used: {error}; look whether the gateway runs "
            "and whether its name is one of its --name"
        ) from error


def _refusal(answer: httpx.Response, device_id: str) -> EstRefused:
    try:
        document = answer.json()
        slug = str(document.get("type", "")).removeprefix(PROBLEM_TYPE_PREFIX)
        reason = str(document.get("detail") or document.get("title") or slug)
    except (ValueError, AttributeError):
        slug, reason = "", answer.text[:_LONGEST_REASON] or answer.reason_phrase
    named = f" ({slug})" if slug else ""
    return EstRefused(
        f"{device_id} was not enrolled: HTTP status {answer.status_code}, {reason}{named}",
        slug=slug,
        status=answer.status_code,
    )


def _certificates(answer: httpx.Response) -> list[x509.Certificate]:
    """Read a certs-only PKCS#7 in base64 (RFC 7030 §4.2.3; RFC 8951 §3 on its line breaks)."""
    given = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if given != _MEDIA_TYPE:
            raise ValueError(f"the media type is {given or 'missing'}")
        der = base64.b64decode(b"".join(answer.content.split()), validate=True)
        issued = pkcs7.load_der_pkcs7_certificates(der)
        # What was read lazily must be readable: a key of an unknown kind is found here.
        return [x509.load_der_x509_certificate(one.public_bytes(Encoding.DER)) for one in issued]
    except (ValueError, binascii.Error) as error:
        raise Refused(f"{answer.url} answered with what is no certificate: {error}") from error
