"""Client of the gateway's admin interface, over its Unix socket or from afar over mutual TLS."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True, slots=True)
class RemoteGateway:
    """A gateway on another machine.

    Attributes:
        url: of its admin listener, as the gateway prints it.
        credential: what ``handfast ca issue-admin`` wrote: key, certificate and root, in PEM.
    """

    url: str
    credential: Path


class AdminClient:
    """Asks a running gateway to do things.

    Args:
        gateway: its state folder, where its admin socket is, or where it is from afar.

    Every method raises:
        Unreachable: no gateway answers.
        AdminRefused: the gateway refused (a :class:`~handfast.errors.Refused` with its slug).
        UsageError: what was asked for does not exist or is malformed.
        EnvironmentProblem: the gateway's disk is full or broken; the message says what holds.
    """

    def __init__(self, gateway: StateDir | RemoteGateway) -> None:
        self._gateway = gateway

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

    def rollover(self) -> dict[str, Any]:
        """Return what is published of server CAs and roots, and which devices are waited for."""
        return self._object("GET", "rollover")

    def reload_trust(self) -> dict[str, Any]:
        """Have the CAs in the state folder published; returns as :meth:`rollover`."""
        return self._object("POST", "rollover/reload")

    def switch_server_ca(self) -> dict[str, Any]:
        """Have the next server CA take over now; returns as :meth:`rollover`."""
        return self._object("POST", "rollover/server/switch")

    def retire_root(self) -> dict[str, Any]:
        """Have the old root published no more; returns as :meth:`rollover`."""
        return self._object("POST", "rollover/root/retire")

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
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        gateway = self._gateway
        opened = _locally(gateway) if isinstance(gateway, StateDir) else _from_afar(gateway)
        with opened as client:
            return client.request(method, f"/admin/v1/{path}", content=content, headers=headers)

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is kept open between calls."""


@contextmanager
def _locally(state: StateDir) -> Iterator[httpx.Client]:
    socket = state.admin_socket
    try:
        with (
            reachable_socket(socket) as address,
            # An empty TLS context: httpx would load every public CA for a plain socket.
            httpx.HTTPTransport(uds=address, verify=_NO_TLS) as transport,
            _client(transport, "http://gateway") as client,
        ):
            yield client
    except (httpx.TransportError, OSError) as error:
        raise Unreachable(
            f"no gateway answers at {socket} ({error}); start one with "
            f"`handfast gateway serve --dir {state.root}` and try again"
        ) from error


@contextmanager
def _from_afar(gateway: RemoteGateway) -> Iterator[httpx.Client]:
    if not gateway.url.startswith("https://"):
        raise UsageError(f"{gateway.url} is not the https:// address of an admin listener")
    try:
        with (
            httpx.HTTPTransport(verify=_tls_context(gateway.credential)) as transport,
            _client(transport, gateway.url) as client,
        ):
            yield client
    except (httpx.TransportError, OSError) as error:
        raise Unreachable(
            f"no gateway answers {gateway.credential} at {gateway.url} ({error}); look whether it "
            "runs with --admin-port, and have a new certificate issued if this one has ended"
        ) from error


def _client(transport: httpx.HTTPTransport, url: str) -> httpx.Client:
    return httpx.Client(transport=transport, base_url=url, timeout=_TIMEOUT_S, trust_env=False)


def _tls_context(credential: Path) -> ssl.SSLContext:
    """Trust the root in the file, and nobody else."""
    try:
        _, begin, root = credential.read_text().rpartition("-----BEGIN CERTIFICATE-----")
        context = ssl.create_default_context(cadata=begin + root)
        context.load_cert_chain(credential)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{credential} is not an administrator's credential ({error}): have one made with "
            "`handfast ca issue-admin`"
        ) from error
    return context


def _device_path(device_id: str, *rest: str) -> str:
    return "/".join(["devices", quote(device_id, safe=""), *rest])


def _problem(status: int, document: dict[str, Any]) -> HandfastError:
    slug = str(document.get("type", "")).removeprefix(PROBLEM_TYPE_PREFIX)
    message = str(document.get("detail") or document.get("title") or f"HTTP status {status}")
    if slug in _USAGE:
        return UsageError(message)
    if slug in ("not-durable", "rollover-failed"):
        return EnvironmentProblem(message)
    return AdminRefused(f"{message} ({slug})", slug=slug, status=status)
