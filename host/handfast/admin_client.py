"""Client of the gateway's admin interface: HTTP over the Unix socket in the state folder."""

from __future__ import annotations

import base64
import json
import ssl
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from handfast.errors import EnvironmentProblem, HandfastError, Refused, Unreachable, UsageError
from handfast.state import StateDir
from handfast.unix_socket import reachable_socket
from handfast.wire import PROBLEM_TYPE_PREFIX

_TIMEOUT_S = 30.0
# Problems that say the question was wrong; every other one is a refusal.
_USAGE = {"bad-request", "bad-json", "not-found", "csr-malformed", "csr-signature", "csr-weak-key"}
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class AdminRefused(Refused):
    """The gateway refused; ``slug`` is the problem's stable name, ``status`` the HTTP status."""

    def __init__(self, message: str, *, slug: str, status: int) -> None:
        super().__init__(message)
        self.slug = slug
        self.status = status


class AdminClient:
    """Asks a running gateway to do things.

    Args:
        state: the gateway's state folder; its admin socket is found there.

    Every method raises:
        Unreachable: no gateway answers on the socket.
        AdminRefused: the gateway refused (a :class:`~handfast.errors.Refused` with its slug).
        UsageError: what was asked for does not exist or is malformed.
        EnvironmentProblem: it is done but not stored, since the gateway's disk is full or broken.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def status(self) -> dict[str, Any]:
        """Return counts, listeners and the ends of the gateway's own leaves."""
        return self._object("GET", "status")

    def devices(self) -> list[dict[str, Any]]:
        """Return every device, sorted by name."""
        rows: list[dict[str, Any]] = self._object("GET", "devices")["devices"]
        return rows

    def add_device(self, device_id: str, *, hardware_id: str | None = None) -> dict[str, Any]:
        """Register a device; refused with ``already-exists`` when its name is taken."""
        body = {"device_id": device_id, "hardware_id": hardware_id}
        return self._object("POST", "devices", body)

    def device(self, device_id: str) -> dict[str, Any]:
        """Return one device with its certificates and tokens (never a token's secret)."""
        return self._object("GET", _device_path(device_id))

    def bind_hardware(self, device_id: str, hardware_id: str) -> dict[str, Any]:
        """Give a device that has none its hardware id; returns the device.

        Refused with ``other-hardware`` when it has another; its own again changes nothing.
        """
        return self._object(
            "PUT", _device_path(device_id, "hardware"), {"hardware_id": hardware_id}
        )

    def suspend(self, device_id: str) -> dict[str, Any]:
        """Refuse every credential of the device until it is resumed; closes its connections."""
        return self._object("POST", _device_path(device_id, "suspend"))

    def resume(self, device_id: str) -> dict[str, Any]:
        """End a suspension."""
        return self._object("POST", _device_path(device_id, "resume"))

    def revoke(self, device_id: str) -> dict[str, Any]:
        """Refuse every credential of the device for good; closes its connections first."""
        return self._object("POST", _device_path(device_id, "revoke"))

    def issue_idevid(self, device_id: str, csr_der: bytes) -> bytes:
        """Have the factory CA sign a device's CSR; returns the certificate (DER)."""
        body = {"csr": base64.b64encode(csr_der).decode()}
        answer = self._object("POST", _device_path(device_id, "idevid"), body)
        return base64.b64decode(answer["certificate"])

    def create_token(self, device_id: str, *, lifetime_s: int) -> dict[str, Any]:
        """Make a one-time enrolment token: ``{"token", "expires"}``, shown this once."""
        return self._object("POST", _device_path(device_id, "tokens"), {"lifetime_s": lifetime_s})

    def trust(self) -> dict[str, Any]:
        """Return what a board must be given: anchors and roots (base64 DER), names and URLs."""
        return self._object("GET", "trust")

    def renew_leaf(self) -> dict[str, Any]:
        """Renew the gateway's own leaves now; returns their new ends."""
        return self._object("POST", "leaf/renew")

    def telemetry(self, device_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return stored rows with an ``id`` above ``after``, oldest first, at most 1,000."""
        path = _device_path(device_id, "telemetry") + f"?after={after}"
        rows: list[dict[str, Any]] = self._object("GET", path)["rows"]
        return rows

    def set_config(self, device_id: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Replace the settings that the device reads at /v1/devices/{id}/config."""
        return self._object("PUT", _device_path(device_id, "config"), settings)

    def audit(self, device_id: str | None = None) -> list[dict[str, Any]]:
        """Return the newest audit rows, oldest first, of one device or of all."""
        suffix = f"?device={quote(device_id, safe='')}" if device_id else ""
        rows: list[dict[str, Any]] = self._object("GET", f"audit{suffix}")["rows"]
        return rows

    def _object(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer = self._send(method, path, body)
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise HandfastError(f"the gateway answered {answer.status_code} without a JSON object")
        if answer.is_success:
            return document
        raise _problem(answer.status_code, document)

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        socket = self._state.admin_socket
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            with (
                reachable_socket(socket) as address,
                # An empty TLS context: httpx would load every public CA for a plain socket.
                httpx.HTTPTransport(uds=address, verify=_NO_TLS) as transport,
                httpx.Client(
                    transport=transport,
                    base_url="http://gateway",
                    timeout=_TIMEOUT_S,
                    trust_env=False,
                ) as client,
            ):
                return client.request(method, f"/admin/v1/{path}", content=content, headers=headers)
        except (httpx.TransportError, OSError) as error:
            raise Unreachable(
                f"no gateway answers at {socket} ({error}); start one with "
                f"`handfast gateway serve --dir {self._state.root}` and try again"
            ) from error

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is kept open between calls."""


def _device_path(device_id: str, *rest: str) -> str:
    return "/".join(["devices", quote(device_id, safe=""), *rest])


def _problem(status: int, document: dict[str, Any]) -> HandfastError:
    slug = str(document.get("type", "")).removeprefix(PROBLEM_TYPE_PREFIX)
    message = str(document.get("detail") or document.get("title") or f"HTTP status {status}")
    if slug in _USAGE:
        return UsageError(message)
    if slug == "not-durable":
        return EnvironmentProblem(message)
    return AdminRefused(f"{message} ({slug})", slug=slug, status=status)
