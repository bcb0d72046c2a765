"""What the gateway's tests share: a clock to turn, keys and requests, a registry that is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from handfast.gateway import devices
from handfast.gateway.enrolment import Issue
from handfast.gateway.registry import Registry
from handfast.gateway.reserve import Reserve
from handfast.gateway.view import DeviceRecord
from handfast.pki.csr import ParsedCsr, parse_csr

START = 1_800_000_000.0
SILENT = structlog.wrap_logger(structlog.ReturnLogger())


class Clock:
    """Tells the time that a test sets, in unix seconds."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Requester:
    """A device's key and the requests made with it."""

    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> Requester:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    def csr_der(self, *, common_name: str = "ignored") -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def csr(self) -> ParsedCsr:
        return parse_csr(self.csr_der())


def fresh_csr() -> ParsedCsr:
    return Requester.new().csr()


def issuer(clock: Clock, *, lifetime_s: int = 3600) -> Issue:
    """Return a small CA of its own, for tests in which only the registry's rules count."""
    key = ec.generate_private_key(ec.SECP256R1())

    def issue(device: DeviceRecord, csr: ParsedCsr) -> x509.Certificate:
        now = datetime.fromtimestamp(clock(), UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device.device_id)])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
        builder = builder.public_key(csr.public_key).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + timedelta(seconds=lifetime_s))
        return builder.sign(key, hashes.SHA256())

    return issue


@asynccontextmanager
async def open_registry(
    folder: Path, clock: Clock, *, reserve: Reserve | None = None, log: Any = SILENT
) -> AsyncIterator[Registry]:
    registry = await Registry.open(
        folder / "registry.sqlite3",
        clock=clock,
        reserve=reserve or Reserve(folder / "reserve"),
        log=log,
    )
    try:
        yield registry
    finally:
        await registry.close()


async def add_device(registry: Registry, device_id: str) -> None:
    await registry.write(lambda tx: devices.add_device(tx, device_id=device_id, hardware_id=None))


async def create_token(registry: Registry, device_id: str, *, lifetime_s: float = 60) -> bytes:
    """Return the hash of a new token, which is what enrolment is asked with."""
    made = await registry.write(
        lambda tx: devices.create_token(tx, device_id=device_id, lifetime_s=lifetime_s)
    )
    return devices.token_hash(made.token)
