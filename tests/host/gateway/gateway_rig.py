"""The gateway's application without sockets: requests go straight into the ASGI app.

The scope's extensions are what the server would put there. Everything else is real: CAs,
registry, rules, log.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7
from gateway_kit import Clock, Requester, open_registry
from starlette.types import ASGIApp, Receive, Scope, Send

from handfast.gateway.app import build_app
from handfast.gateway.context import Gateway
from handfast.pki.authorities import Authority
from handfast.pki.issue import issue_ocsp_leaf, issue_tsa_leaf
from handfast.pki.ocsp import Responder
from handfast.pki.rollover import Published
from handfast.pki.timestamp import respond

OWN_SERIAL = 77
CSR_TYPE = {"content-type": "application/pkcs10"}


@dataclass
class Peer:
    """What the server knows of a connection."""

    listener: str
    client_certificate_sha256: bytes | None = None
    address: str = "192.0.2.1:4711"
    device_id: str | None = None
    unix_credentials: tuple[int, int, int] | None = None
    client_certificate: x509.Certificate | None = None
    resumed: bool = False


class _TimeStamper:
    def __init__(self, server: Authority, now: datetime) -> None:
        self._chain = [server.certificate]
        self._leaf = issue_tsa_leaf(server, lifetime_s=86_400, now=now)

    def respond(self, query_der: bytes, *, now: datetime) -> bytes:
        leaf = self._leaf
        return respond(
            query_der,
            key=leaf.private_key,
            leaf=leaf.certificate,
            chain=self._chain,
            now=now,
            serial=x509.random_serial_number(),
        )


class _OwnCertificates:
    """OCSP responders that are real, and one serial number that counts as the gateway's own."""

    def __init__(self, authorities: dict[str, Authority], now: datetime) -> None:
        self._responders = [
            Responder(name, a.certificate, issue_ocsp_leaf(a, lifetime_s=86_400, now=now))
            for name, a in authorities.items()
        ]

    def responders(self) -> list[Responder]:
        return self._responders

    def issued(self, ca: str, serial: int) -> bool:
        return (ca, serial) == ("server", OWN_SERIAL)


@dataclass
class Rig:
    """One gateway, and clients of its listeners."""

    gateway: Gateway
    clock: Clock
    app: ASGIApp
    closed: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)

    def client(
        self, listener: str, certificate: x509.Certificate | None = None
    ) -> httpx.AsyncClient:
        digest = certificate.fingerprint(hashes.SHA256()) if certificate else None
        peer = Peer(listener, digest, client_certificate=certificate)
        if listener == "admin":
            peer.unix_credentials = (os.getpid(), os.geteuid(), os.getegid())
        return self.client_of(peer)

    def client_of(self, peer: Peer) -> httpx.AsyncClient:
        async def with_peer(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {"handfast": {"listener": peer.listener, "peer": peer}}
            await self.app(scope, receive, send)

        transport = httpx.ASGITransport(app=with_peer)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        async with self.client("admin") as client:
            return await client.request(method, f"/admin/v1/{path}", json=body)

    async def add(self, *device_ids: str) -> None:
        for device_id in device_ids:
            answer = await self.admin("POST", "devices", {"device_id": device_id})
            assert answer.status_code == 201

    async def token(self, device_id: str = "a", *, lifetime_s: int = 600) -> str:
        answer = await self.admin("POST", f"devices/{device_id}/tokens", {"lifetime_s": lifetime_s})
        token: str = answer.json()["token"]
        return token

    async def idevid(self, key: Requester, device_id: str = "a") -> x509.Certificate:
        csr = base64.b64encode(key.csr_der()).decode()
        answer = await self.admin("POST", f"devices/{device_id}/idevid", {"csr": csr})
        return x509.load_der_x509_certificate(base64.b64decode(answer.json()["certificate"]))

    async def enrol(
        self,
        key: Requester,
        *,
        device_id: str = "a",
        token: str | None = None,
        certificate: x509.Certificate | None = None,
        operation: str = "simpleenroll",
    ) -> httpx.Response:
        auth = None if token is None else httpx.BasicAuth(device_id, token)
        body = base64.b64encode(key.csr_der())
        async with self.client("enrol", certificate) as client:
            path = f"/.well-known/est/{operation}"
            return await client.post(path, content=body, headers=CSR_TYPE, auth=auth)

    async def ping(self, certificate: x509.Certificate | None) -> httpx.Response:
        async with self.client("api", certificate) as client:
            return await client.get("/v1/ping")

    async def enrolled(self, device_id: str = "a", *, use: bool = True) -> x509.Certificate:
        """Enrol a device with a token; ``use`` makes its first request too."""
        token = await self.token(device_id)
        leaf = certificate_of(await self.enrol(Requester.new(), device_id=device_id, token=token))
        if use:
            assert (await self.ping(leaf)).status_code == 200
        return leaf


def certificate_of(response: httpx.Response) -> x509.Certificate:
    """Return the one certificate in an EST answer."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(response.content))
    return certificate


def slug_of(response: httpx.Response) -> str:
    """Return a problem document's slug, having checked that it is one."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    slug: str = document["type"].removeprefix("urn:handfast:error:")
    return slug


def published(authorities: dict[str, Authority]) -> Published:
    """Return what is published of CAs of which none is rolled over."""
    certificates = {name: authority.certificate for name, authority in authorities.items()}
    return Published(
        server=certificates["server"],
        next_server=None,
        root=certificates["root"],
        old_root=None,
        new_with_old=None,
        old_with_new=None,
        below=(certificates["device"], certificates["factory"]),
    )


@asynccontextmanager
async def open_rig(
    folder: Path, authorities: dict[str, Authority], *, overlap_s: float = 300
) -> AsyncIterator[Rig]:
    clock = Clock(datetime.now(UTC).timestamp())
    logged: list[dict[str, Any]] = []
    closed: list[str] = []

    def close_device(device_id: str) -> int:
        closed.append(device_id)
        return 1

    async def renew() -> dict[str, int]:
        return {"rsa": int(clock()) + 1}

    def keep(_logger: object, method: str, event: dict[str, Any]) -> str:
        logged.append({"level": method, **event})
        raise structlog.DropEvent

    loaded = {name: authorities[name] for name in ("device", "factory", "server", "admin")}
    log = structlog.wrap_logger(None, processors=[keep])
    async with open_registry(folder, clock, log=log) as registry:
        gateway = Gateway(
            registry=registry,
            authorities=loaded,
            published=published(authorities),
            admin_ca=authorities["admin"].certificate,
            trust_domain="example.test",
            overlap_s=overlap_s,
            device_lifetime_s=3600,
            time_stamper=_TimeStamper(authorities["server"], datetime.now(UTC)),
            own=_OwnCertificates(loaded, datetime.now(UTC)),
            close_device=close_device,
            renew_leaves=renew,
            leaf_ends=lambda: {"rsa": int(clock())},
            log=log,
            urls={"api": "https://g:1", "enrol": "https://g:2", "public": "http://g:3"},
        )
        yield Rig(gateway, clock, build_app(gateway), closed, logged)
