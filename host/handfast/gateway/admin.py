"""What an administrator may ask, over the Unix socket in the state folder or mutual TLS."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from handfast.errors import HandfastError, UsageError
from handfast.gateway import devices
from handfast.gateway.context import Follower, Gateway
from handfast.gateway.enrolment import issue_idevid
from handfast.gateway.problems import Problem
from handfast.gateway.requests import notes, peer_of, read_json
from handfast.gateway.view import DeviceState
from handfast.gateway.writer import RETRY_S, NotStored
from handfast.pki.csr import parse_csr
from handfast.pki.names import validate_device_id, validate_hardware_id

T = TypeVar("T")

_PREFIX = "/admin/v1"
_LONGEST_TOKEN_LIFETIME_S = 30 * 86_400
_ROW_ID = re.compile(r"[0-9]{1,18}")


def require_owner(scope: Scope, _gateway: Gateway) -> None:
    """Refuse who is neither the gateway's own user nor root, whatever the socket's mode says."""
    credentials = peer_of(scope).unix_credentials
    if credentials is None or credentials[1] not in (0, os.geteuid()):
        raise Problem("no-certificate", "Only the gateway's own user and root are answered here.")


def require_administrator(scope: Scope, gateway: Gateway) -> None:
    """Refuse a certificate of the admin CA outside of its life, however old the connection is.

    The handshake has verified the chain. There is no revocation: such a certificate lives for
    a day at most.
    """
    certificate = peer_of(scope).client_certificate
    if certificate is None:
        raise Problem("no-certificate")
    notes(scope)["administrator"] = certificate.subject.rfc4514_string()
    if gateway.now() < certificate.not_valid_before_utc:
        raise Problem("certificate-not-yet-valid")
    if gateway.now() > certificate.not_valid_after_utc:
        raise Problem("certificate-expired", "Have a new certificate issued.")


def routes(gateway: Gateway) -> Sequence[BaseRoute]:
    """Return the admin routes."""
    do = _Admin(gateway)
    device = "/devices/{device_id}"
    table = (
        ("/status", do.status, "GET"),
        ("/trust", do.trust, "GET"),
        ("/leaf/renew", do.renew_leaves, "POST"),
        ("/rollover", do.rollover, "GET"),
        ("/rollover/reload", do.reload_trust, "POST"),
        ("/rollover/server/switch", do.switch_server, "POST"),
        ("/rollover/root/retire", do.retire_root, "POST"),
        ("/audit", do.audit, "GET"),
        ("/devices", do.list_devices, "GET"),
        ("/devices", do.add_device, "POST"),
        (device, do.show_device, "GET"),
        (device + "/suspend", do.suspend, "POST"),
        (device + "/resume", do.resume, "POST"),
        (device + "/revoke", do.revoke, "POST"),
        (device + "/idevid", do.issue_idevid, "POST"),
        (device + "/tokens", do.create_token, "POST"),
        (device + "/hardware", do.bind_hardware, "PUT"),
        (device + "/config", do.set_config, "PUT"),
        (device + "/telemetry", do.telemetry, "GET"),
    )
    return [Route(_PREFIX + path, handler, methods=[method]) for path, handler, method in table]


class _Admin:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = gateway.registry

    async def status(self, _request: Request) -> JSONResponse:
        view = self._registry.view
        states = [str(device.state) for device in view.devices.values()]
        return JSONResponse(
            {
                "pid": os.getpid(),
                "time": int(self._registry.clock()),
                "urls": self._gateway.urls,
                "devices": {str(state): states.count(str(state)) for state in DeviceState},
                "leaf_ends": self._gateway.leaf_ends(),
            }
        )

    async def trust(self, _request: Request) -> JSONResponse:
        published, urls = self._gateway.published, self._gateway.urls
        return JSONResponse(
            {
                "trust_domain": self._gateway.trust_domain,
                "tls_anchors": _encoded(published.server_cas),
                "roots": _encoded(published.roots),
                "api_url": urls["api"],
                "enrol_url": urls["enrol"],
                "tsa_url": urls["public"] + "/tsa",
            }
        )

    async def renew_leaves(self, _request: Request) -> JSONResponse:
        return JSONResponse({"leaf_ends": await self._gateway.renew_leaves()})

    async def rollover(self, _request: Request) -> JSONResponse:
        return JSONResponse(self._rollover.status())

    async def reload_trust(self, _request: Request) -> JSONResponse:
        return await self._moved(self._rollover.reload)

    async def switch_server(self, _request: Request) -> JSONResponse:
        return await self._moved(self._rollover.switch)

    async def retire_root(self, _request: Request) -> JSONResponse:
        return await self._moved(self._rollover.retire)

    @property
    def _rollover(self) -> Follower:
        follower = self._gateway.rollover
        if follower is None:
            raise Problem("not-found")
        return follower

    async def _moved(self, move: Callable[[], Awaitable[None]]) -> JSONResponse:
        try:
            await move()
        except HandfastError as error:
            self._gateway.log.error("rollover_failed", reason=str(error))
            raise Problem("rollover-failed", str(error)) from None
        return JSONResponse(self._rollover.status())

    async def audit(self, request: Request) -> JSONResponse:
        rows = await self._registry.audit(request.query_params.get("device"))
        return JSONResponse({"rows": rows})

    async def list_devices(self, _request: Request) -> JSONResponse:
        return JSONResponse({"devices": await self._registry.devices()})

    async def add_device(self, request: Request) -> JSONResponse:
        body = await read_json(request)
        device_id = _checked(validate_device_id, body.get("device_id"))
        hardware_id = body.get("hardware_id")
        if hardware_id is not None:
            hardware_id = _checked(validate_hardware_id, hardware_id)
        add = partial(devices.add_device, device_id=device_id, hardware_id=hardware_id)
        await self._registry.write(add)
        return JSONResponse(await self._registry.device(device_id), status_code=201)

    async def show_device(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._registry.device(request.path_params["device_id"]))

    async def suspend(self, request: Request) -> JSONResponse:
        return await self._stop(request, DeviceState.SUSPENDED)

    async def revoke(self, request: Request) -> JSONResponse:
        return await self._stop(request, DeviceState.REVOKED)

    async def resume(self, request: Request) -> JSONResponse:
        device_id = request.path_params["device_id"]
        state = DeviceState.ACTIVE
        change = partial(devices.set_device_state, device_id=device_id, state=state)
        await self._registry.write(change)
        return self._changed(device_id, state, closed=0)

    async def _stop(self, request: Request, state: DeviceState) -> JSONResponse:
        """Refuse the device from now on and close what it has open; answer once it is stored."""
        device_id = request.path_params["device_id"]
        storing = self._registry.stop_device(device_id, state)
        closed = self._gateway.close_device(device_id)
        try:
            await storing
        except NotStored as error:
            self._gateway.log.error(
                "device_state_not_stored",
                device_id=device_id,
                state=str(state),
                closed_connections=closed,
                reason=error.reason,
            )
            raise Problem(
                "not-durable",
                f"{device_id} is {state} (connections closed: {closed}), but this is not "
                f"stored: {error.reason}. It is tried again every {RETRY_S:.0f} s; a gateway that "
                "is restarted before that does not know of it. Make room on the disk, then ask "
                "again.",
            ) from None
        return self._changed(device_id, state, closed=closed)

    def _changed(self, device_id: str, state: DeviceState, *, closed: int) -> JSONResponse:
        self._gateway.log.info(
            "device_state", device_id=device_id, state=str(state), closed_connections=closed
        )
        return JSONResponse(
            {"device_id": device_id, "state": str(state), "closed_connections": closed}
        )

    async def bind_hardware(self, request: Request) -> JSONResponse:
        hardware_id = _checked(validate_hardware_id, (await read_json(request)).get("hardware_id"))
        device_id = request.path_params["device_id"]
        bind = partial(devices.bind_hardware, device_id=device_id, hardware_id=hardware_id)
        await self._registry.write(bind)
        return JSONResponse(await self._registry.device(device_id))

    async def issue_idevid(self, request: Request) -> JSONResponse:
        body = await read_json(request)
        try:
            csr_der = base64.b64decode(str(body.get("csr", "")), validate=True)
        except binascii.Error:
            raise Problem("csr-malformed") from None
        issue = partial(
            issue_idevid,
            device_id=request.path_params["device_id"],
            csr=parse_csr(csr_der),
            issue=self._gateway.issue_factory_identity,
        )
        issued = await self._registry.write(issue)
        certificate = base64.b64encode(issued.der).decode()
        return JSONResponse({"certificate": certificate, "serial": issued.serial})

    async def create_token(self, request: Request) -> JSONResponse:
        lifetime_s = (await read_json(request)).get("lifetime_s")
        if (
            not isinstance(lifetime_s, int | float)
            or isinstance(lifetime_s, bool)
            or not 0 < lifetime_s <= _LONGEST_TOKEN_LIFETIME_S
        ):
            longest = _LONGEST_TOKEN_LIFETIME_S
            raise Problem("bad-request", f"lifetime_s must be above 0 and at most {longest}.")
        device_id = request.path_params["device_id"]
        create = partial(devices.create_token, device_id=device_id, lifetime_s=lifetime_s)
        token = await self._registry.write(create)
        return JSONResponse({"token": token.token, "expires": int(token.expires)}, status_code=201)

    async def set_config(self, request: Request) -> JSONResponse:
        settings = await read_json(request)
        device_id = request.path_params["device_id"]
        change = partial(devices.set_device_settings, device_id=device_id, settings=settings)
        await self._registry.write(change)
        return JSONResponse({"device_id": device_id, "settings": settings})

    async def telemetry(self, request: Request) -> JSONResponse:
        after = request.query_params.get("after", "0")
        if not _ROW_ID.fullmatch(after):
            raise Problem("bad-request", "after must be the id of a row.")
        device_id = request.path_params["device_id"]
        if device_id not in self._registry.view.devices:
            raise Problem("not-found", f"There is no device {device_id}.")
        rows: list[dict[str, Any]] = await self._registry.telemetry(device_id, after=int(after))
        return JSONResponse({"rows": rows})


def _encoded(certificates: Sequence[x509.Certificate]) -> list[str]:
    return [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in certificates]


def _checked(validate: Callable[[str], str], value: object) -> str:
    if not isinstance(value, str):
        raise Problem("bad-request", "device_id and hardware_id must be strings.")
    try:
        return validate(value)
    except UsageError as error:
        raise Problem("bad-request", str(error)) from None
