"""Enrolment over Secure Transport, on the enrol listener (RFC 7030, clarified by RFC 8951)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from functools import partial

from cryptography import x509
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from handfast.gateway.authorise import Purpose, RequestFacts
from handfast.gateway.context import Gateway
from handfast.gateway.devices import token_hash
from handfast.gateway.enrolment import Issued, Refusal, enrol_by_certificate, enrol_by_token
from handfast.gateway.problems import Problem
from handfast.gateway.requests import (
    certificate_sha256,
    decide,
    note_device,
    notes,
    read_body,
    require_content_type,
)
from handfast.pki.csr import ParsedCsr, parse_csr
from handfast.pki.pkcs7 import certs_only

# A CSR with a P-256 key takes under 1 KB; base64 with line breaks adds two fifths.
_MAX_CSR_BODY_BYTES = 16_384
_MAX_CREDENTIAL_CHARACTERS = 512
# RFC 7030 section 4.5.2, CsrAttrs: ecPublicKey with secp256r1, and ecdsa-with-SHA256.
_CSR_ATTRIBUTES = bytes.fromhex(
    "3021 3015 06072a8648ce3d0201 310a 06082a8648ce3d030107 06082a8648ce3d040302"
)
# The profile that the label before an operation selects (RFC 7030 section 3.2.2).
_LABELS = ("device",)


def routes(gateway: Gateway) -> Sequence[BaseRoute]:
    """Return EST's routes, each with and without a label."""
    handlers = _Est(gateway)
    operations = (
        ("cacerts", handlers.cacerts, "GET"),
        ("csrattrs", handlers.csrattrs, "GET"),
        ("simpleenroll", handlers.simpleenroll, "POST"),
        ("simplereenroll", handlers.simplereenroll, "POST"),
    )
    prefixes = ["/.well-known/est/"] + [f"/.well-known/est/{label}/" for label in _LABELS]
    return [
        Route(prefix + name, handler, methods=[method])
        for prefix in prefixes
        for name, handler, method in operations
    ]


class _Est:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def cacerts(self, request: Request) -> Response:
        answer = _certificates(self._gateway.published.all)
        # A board asks at each renewal, with the hash of what it was told the last time.
        tag = f'"{hashlib.sha256(answer.body).hexdigest()}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        answer.headers["etag"] = tag
        return answer

    async def csrattrs(self, _request: Request) -> Response:
        return _base64_response(_CSR_ATTRIBUTES, "application/csrattrs")

    async def simpleenroll(self, request: Request) -> Response:
        authorization = request.headers.get("authorization")
        if authorization is not None:
            return await self._enrol_by_token(request, authorization)
        sha256 = certificate_sha256(request.scope)
        if sha256 is None:
            raise Problem("token-missing")
        decide(request.scope, self._gateway, RequestFacts(Purpose.ENROL))
        return await self._enrol_by_certificate(request, sha256)

    async def simplereenroll(self, request: Request) -> Response:
        allowed = decide(request.scope, self._gateway, RequestFacts(Purpose.RE_ENROL))
        return await self._enrol_by_certificate(request, allowed.certificate.sha256)

    async def _enrol_by_token(self, request: Request, authorization: str) -> Response:
        device_id, token = _basic_credentials(authorization)
        self._refuse_foreign_certificate(request, device_id)
        csr = await _read_csr(request)
        enrol = partial(
            enrol_by_token,
            device_id=device_id,
            token_sha256=token_hash(token),
            csr=csr,
            issue=self._gateway.issue_leaf,
        )
        outcome = await self._gateway.registry.write(enrol)
        if not isinstance(outcome, Refusal) or outcome.slug != "token-unknown":
            note_device(request.scope, device_id)
        return self._answer(request, outcome)

    def _refuse_foreign_certificate(self, request: Request, device_id: str) -> None:
        """Who proves to be one device cannot bring a token as another."""
        sha256 = certificate_sha256(request.scope)
        if sha256 is None:
            return
        certificate = self._gateway.registry.view.certificates.get(sha256)
        if certificate is None:
            raise Problem("unknown-certificate")
        if certificate.device_id != device_id:
            note_device(request.scope, certificate.device_id)
            raise Problem("not-your-path", "The token is another device's.")

    async def _enrol_by_certificate(self, request: Request, sha256: bytes) -> Response:
        csr = await _read_csr(request)
        enrol = partial(
            enrol_by_certificate,
            certificate_sha256=sha256,
            csr=csr,
            issue=self._gateway.issue_leaf,
        )
        return self._answer(request, await self._gateway.registry.write(enrol))

    def _answer(self, request: Request, outcome: Issued | Refusal) -> Response:
        if isinstance(outcome, Refusal):
            raise Problem(outcome.slug)
        notes(request.scope)["serial"] = outcome.serial
        notes(request.scope)["repeated"] = outcome.repeated
        return _certificates([x509.load_der_x509_certificate(outcome.der)])


async def _read_csr(request: Request) -> ParsedCsr:
    require_content_type(request, "application/pkcs10")
    body = await read_body(request, limit=_MAX_CSR_BODY_BYTES)
    try:
        # RFC 8951 section 3: line breaks are neither required nor refused.
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise Problem("csr-malformed") from None
    return parse_csr(der)


def _basic_credentials(authorization: str) -> tuple[str, str]:
    """Return device_id and token (RFC 7617); anything else is an unknown token."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _MAX_CREDENTIAL_CHARACTERS:
        raise Problem("token-missing")
    try:
        user, colon, token = (
            base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        )
    except ValueError:
        raise Problem("token-unknown") from None
    if not colon:
        raise Problem("token-unknown")
    return user, token


def _certificates(certificates: list[x509.Certificate]) -> Response:
    media_type = "application/pkcs7-mime; smime-type=certs-only"
    return _base64_response(certs_only(certificates), media_type)


def _base64_response(der: bytes, media_type: str) -> Response:
    # Clients from before RFC 8951 want the header and lines of at most 76 characters.
    headers = {"content-transfer-encoding": "base64", "cache-control": "no-store"}
    return Response(base64.encodebytes(der), headers=headers, media_type=media_type)
