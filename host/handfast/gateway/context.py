"""What the gateway's handlers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from cryptography import x509

from handfast.gateway.registry import Registry
from handfast.gateway.view import DeviceRecord
from handfast.pki.authorities import Authority
from handfast.pki.csr import ParsedCsr
from handfast.pki.issue import issue_device_leaf, issue_idevid
from handfast.pki.ocsp import Responder
from handfast.pki.rollover import Published


class TimeStamper(Protocol):
    """Signs RFC 3161 answers."""

    def respond(self, query_der: bytes, *, now: datetime) -> bytes:
        """Return a TimeStampResp in DER, whatever the query is."""


class Follower(Protocol):
    """Follows and moves a rollover; see :class:`handfast.gateway.rollover.Rollover`."""

    def status(self) -> dict[str, Any]:
        """Return what is published and which devices are waited for."""

    async def reload(self) -> None:
        """Publish what a command has put into the state folder."""

    async def switch(self) -> None:
        """Have the next ``server`` CA take over."""

    async def retire(self) -> None:
        """Publish the old root no more."""


class OwnCertificates(Protocol):
    """What the gateway issued to itself."""

    def responders(self) -> Sequence[Responder]:
        """Return who answers OCSP requests now, one for each CA whose key is loaded."""

    def issued(self, ca: str, serial: int) -> bool:
        """Tell whether a certificate is one of the gateway's own, in use or just replaced."""


@dataclass(slots=True)
class Gateway:
    """One running gateway.

    Attributes:
        authorities: issuing CAs by name, with their keys; admin's may be kept elsewhere.
        published: the CA certificates that anyone may have.
        admin_ca: anchor of administrators from afar.
        overlap_s: how long a superseded leaf stays good.
        device_lifetime_s: life of an operational leaf.
        close_device: closes a device's open connections and returns how many there were.
        renew_leaves: renews the gateway's own leaves now; returns their ends (unix seconds).
        urls: of the listeners, by name.
    """

    registry: Registry
    authorities: Mapping[str, Authority]
    published: Published
    admin_ca: x509.Certificate
    trust_domain: str
    overlap_s: float
    device_lifetime_s: int
    time_stamper: TimeStamper
    own: OwnCertificates
    close_device: Callable[[str], int]
    renew_leaves: Callable[[], Awaitable[dict[str, int]]]
    leaf_ends: Callable[[], dict[str, int]]
    log: Any
    urls: dict[str, str] = field(default_factory=dict)
    telemetry_interval_s: int = 5
    rollover: Follower | None = None

    @property
    def certificates(self) -> dict[str, x509.Certificate]:
        """Every CA's certificate by name, those in use."""
        device, factory = self.published.below
        return {
            "root": self.published.root,
            "device": device,
            "factory": factory,
            "server": self.published.server,
            "admin": self.admin_ca,
        }

    def now(self) -> datetime:
        """Return the registry's time."""
        return datetime.fromtimestamp(self.registry.clock(), UTC)

    def issue_leaf(self, device: DeviceRecord, csr: ParsedCsr) -> x509.Certificate:
        """Sign an operational leaf; its names come from the registry."""
        return issue_device_leaf(
            self.authorities["device"],
            public_key=csr.public_key,
            device_id=device.device_id,
            trust_domain=self.trust_domain,
            hardware_id=device.hardware_id,
            lifetime_s=self.device_lifetime_s,
            now=self.now(),
        )

    def issue_factory_identity(self, device: DeviceRecord, csr: ParsedCsr) -> x509.Certificate:
        """Sign an IDevID; its names come from the registry."""
        return issue_idevid(
            self.authorities["factory"],
            public_key=csr.public_key,
            device_id=device.device_id,
            trust_domain=self.trust_domain,
            hardware_id=device.hardware_id,
            now=self.now(),
        )
