"""The REST API for devices, on the api listener."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from handfast.gateway.context import Gateway
from handfast.gateway.problems import Problem
from handfast.gateway.requests import authorised, read_json, require_content_type
from handfast.gateway.telemetry import parse_anchors, store_anchors, store_telemetry
from handfast.gateway.writer import Transaction

_BOOT_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_LARGEST_SEQ = 2**53 - 1
# A board's heap holds a few KB of JSON; its budget in the registry holds a thousand of these.
_MAX_REPORT_BYTES = 16_384


def routes(gateway: Gateway) -> Sequence[BaseRoute]:
    """Return the API's routes."""
    handlers = _Api(gateway)
    return [
        Route("/v1/ping", handlers.ping, methods=["GET"]),
        Route("/v1/devices/me", handlers.me, methods=["GET"]),
        Route("/v1/devices/{device_id}/telemetry", handlers.telemetry, methods=["POST"]),
        Route("/v1/devices/{device_id}/config", handlers.config, methods=["GET"]),
    ]


class _Api:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def ping(self, request: Request) -> JSONResponse:
        allowed = await authorised(request, self._gateway)
        now = int(self._gateway.registry.clock())
        return JSONResponse({"device_id": allowed.device.device_id, "time": now})

    async def me(self, request: Request) -> JSONResponse:
        allowed = await authorised(request, self._gateway)
        certificate = allowed.certificate
        return JSONResponse(
            {
                "device_id": allowed.device.device_id,
                "state": str(allowed.device.state),
                "certificate": {
                    "serial": certificate.serial,
                    "not_before": certificate.not_before,
                    "not_after": certificate.not_after,
                },
            }
        )

    async def telemetry(self, request: Request) -> JSONResponse:
        allowed = await authorised(request, self._gateway)
        require_content_type(request, "application/json")
        document = await read_json(request, limit=_MAX_REPORT_BYTES)
        boot_id, seq, values = _telemetry_row(document)
        device_id = allowed.device.device_id
        # As it came: an escaped character would take three times the space that it was sent in.
        body = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
        anchors = parse_anchors(document["anchors"]) if "anchors" in document else None

        def store(tx: Transaction) -> bool:
            stored = store_telemetry(tx, device_id=device_id, boot_id=boot_id, seq=seq, values=body)
            if anchors is not None:
                store_anchors(tx, device_id=device_id, anchors=anchors)
            return stored

        return JSONResponse({"stored": await self._gateway.registry.write(store)})

    async def config(self, request: Request) -> JSONResponse:
        allowed = await authorised(request, self._gateway)
        defaults = {"telemetry_interval_s": self._gateway.telemetry_interval_s}
        return JSONResponse(defaults | json.loads(allowed.device.settings))


def _telemetry_row(document: dict[str, Any]) -> tuple[str, int, dict[str, Any]]:
    boot_id, seq, values = (document.get(name) for name in ("boot_id", "seq", "values"))
    if not isinstance(boot_id, str) or not _BOOT_ID.fullmatch(boot_id):
        raise Problem("bad-request", "boot_id must be 1 to 32 of A-Z, a-z, 0-9, '.', '_', '-'.")
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= _LARGEST_SEQ:
        raise Problem("bad-request", "seq must be an integer from 0 to 2^53-1.")
    if not isinstance(values, dict):
        raise Problem("bad-request", "values must be an object.")
    return boot_id, seq, values
