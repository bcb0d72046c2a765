"""Who is revoked, one certificate at a time: OCSP over HTTP (RFC 6960 appendix A.1).

Answered for the issuing CAs: device, factory, server and admin. An administrator's certificate is
issued without the gateway (``ca issue-admin``), so the answer about it is ``unknown``. Where the
admin CA's key is kept off this machine it is ``unauthorized``, as it is for the root.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.x509 import ReasonFlags
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from handfast.gateway.context import Gateway
from handfast.gateway.requests import read_body, require_content_type
from handfast.pki.ocsp import MAX_REQUEST_BYTES, Good, Revoked, Status, Unknown, respond

_REQUEST_TYPE = "application/ocsp-request"
_RESPONSE_TYPE = "application/ocsp-response"


def routes(gateway: Gateway) -> Sequence[BaseRoute]:
    """Return the routes of ``/ocsp``."""
    handlers = _Ocsp(gateway)
    return [
        Route("/ocsp", handlers.post, methods=["POST"]),
        # A path of its own for every request; base64 has slashes in it.
        Route("/ocsp/{request:path}", handlers.get, methods=["GET"]),
    ]


class _Ocsp:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def post(self, request: Request) -> Response:
        require_content_type(request, _REQUEST_TYPE)
        return self._answer(await read_body(request, limit=MAX_REQUEST_BYTES))

    async def get(self, request: Request) -> Response:
        try:
            asked = base64.b64decode(request.path_params["request"], validate=True)
        except (binascii.Error, ValueError):
            asked = b""  # which is no request either
        return self._answer(asked)

    def _answer(self, asked: bytes) -> Response:
        answer = respond(
            asked,
            responders=self._gateway.own.responders(),
            status_of=self._status,
            now=self._gateway.now(),
        )
        # An answer kept on the way would deny a revocation that came since.
        headers = {"cache-control": "no-store"}
        return Response(answer, headers=headers, media_type=_RESPONSE_TYPE)

    def _status(self, ca: str, serial: int) -> Status:
        view = self._gateway.registry.view
        key = (ca, f"{serial:x}")
        if revocation := view.revocation(*key):
            when = datetime.fromtimestamp(int(revocation.revoked_at), UTC)
            return Revoked(when, ReasonFlags[revocation.reason])
        if key in view.by_serial or self._gateway.own.issued(ca, serial):
            return Good()
        return Unknown()
