"""What anyone may ask, over plain HTTP: signed time, CA certificates, who is revoked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ReasonFlags
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from handfast.gateway import ocsp
from handfast.gateway.context import Gateway
from handfast.gateway.problems import Problem
from handfast.gateway.requests import read_body, require_content_type
from handfast.pki.authorities import Authority
from handfast.pki.crl import build_crl
from handfast.wire import TSA_CONTENT_TYPE, TSA_REPLY_CONTENT_TYPE

# A query with a SHA-256 imprint and a nonce takes 70 bytes.
_MAX_QUERY_BYTES = 4096
_CRL_LIFETIME = timedelta(hours=24)
_CRL_REBUILT_AFTER_S = 600.0


def routes(gateway: Gateway) -> Sequence[BaseRoute]:
    """Return the public routes."""
    handlers = _Public(gateway)
    return [
        Route("/tsa", handlers.time_stamp, methods=["POST"]),
        Route("/ca/{name}.cer", handlers.certificate, methods=["GET"]),
        Route("/crl/{name}.crl", handlers.crl, methods=["GET"]),
        *ocsp.routes(gateway),
    ]


@dataclass(frozen=True, slots=True)
class _Crl:
    der: bytes
    issuer: Authority
    built: float
    version: int


class _Public:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._crls: dict[str, _Crl] = {}

    async def time_stamp(self, request: Request) -> Response:
        require_content_type(request, TSA_CONTENT_TYPE)
        query = await read_body(request, limit=_MAX_QUERY_BYTES)
        # On the event loop: nothing may come between reading the clock and signing.
        reply = self._gateway.time_stamper.respond(query, now=self._gateway.now())
        return Response(reply, media_type=TSA_REPLY_CONTENT_TYPE)

    async def certificate(self, request: Request) -> Response:
        certificate = self._gateway.certificates.get(request.path_params["name"])
        if certificate is None:
            raise Problem("not-found")
        der = certificate.public_bytes(Encoding.DER)
        return Response(der, media_type="application/pkix-cert")

    async def crl(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._gateway.authorities:
            raise Problem("not-found")
        return Response(
            self._fresh_crl(name).der,
            # The next revocation shows at once: nobody on the way may keep this.
            headers={"cache-control": "no-store"},
            media_type="application/pkix-crl",
        )

    def _fresh_crl(self, name: str) -> _Crl:
        """Return the CRL as of the newest revocation; built again only when something changed."""
        version = self._gateway.registry.view.revocation_version
        issuer = self._gateway.authorities[name]
        kept = self._crls.get(name)
        now = time.monotonic()
        same = kept is not None and (kept.version, kept.issuer) == (version, issuer)
        if kept and same and now - kept.built < _CRL_REBUILT_AFTER_S:
            return kept
        self._crls[name] = fresh = _Crl(self._build_crl(issuer), issuer, now, version)
        return fresh

    def _build_crl(self, issuer: Authority) -> bytes:
        this_update = self._gateway.now().replace(microsecond=0)
        revoked = [
            (
                int(revocation.serial, 16),
                datetime.fromtimestamp(int(revocation.revoked_at), this_update.tzinfo),
                ReasonFlags[revocation.reason],
            )
            for revocation in self._gateway.registry.view.revoked_by(issuer.name)
        ]
        return build_crl(
            issuer,
            revoked,
            # Rises with time, so across restarts too (RFC 5280 section 5.2.3).
            number=int(self._gateway.registry.clock() * 1000),
            this_update=this_update,
            next_update=this_update + _CRL_LIFETIME,
        )
