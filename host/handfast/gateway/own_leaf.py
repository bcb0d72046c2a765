"""The gateway's own certificates: made at start, renewed at two thirds of life, swapped live.

Two server leaves (RSA-2048 for boards, P-256 for everyone else), one that signs time, and for each
CA whose key is loaded one that signs OCSP answers. Their keys never leave this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from handfast.errors import Refused
from handfast.gateway.server import build_context
from handfast.pki.authorities import Authority
from handfast.pki.issue import (
    IssuedKeyPair,
    issue_ocsp_leaf,
    issue_server_leaf,
    issue_tsa_leaf,
)
from handfast.pki.ocsp import Responder
from handfast.pki.timestamp import respond

MAX_LIFETIME_S = 7 * 86_400
_CHECK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Issuers:
    """Who signs the gateway's own certificates.

    Attributes:
        server: the ``server`` CA.
        behind: what is sent behind its leaves, that CA first.
        answers_for: the CAs that OCSP requests are answered for.
    """

    server: Authority
    behind: tuple[x509.Certificate, ...]
    answers_for: tuple[Authority, ...] = ()


@dataclass(frozen=True, slots=True)
class _Leaves:
    issuers: Issuers
    rsa: IssuedKeyPair
    p256: IssuedKeyPair
    time_stamp: IssuedKeyPair
    responders: tuple[Responder, ...]

    def pairs(self) -> tuple[IssuedKeyPair, ...]:
        return self.rsa, self.p256, self.time_stamp

    def ends(self) -> dict[str, int]:
        named = {"rsa": self.rsa, "p256": self.p256, "time_stamp": self.time_stamp}
        return {name: int(_end(pair).timestamp()) for name, pair in named.items()}


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """How one listener's TLS context is built from the current leaves (:func:`build_context`)."""

    client_anchors: tuple[x509.Certificate, ...]
    client_certificate: Literal["required", "optional", "none"]
    resumable_s: int = 0


class OwnLeaves:
    """Call :meth:`renew` once before anything else, then let :meth:`keep_fresh` run.

    Args:
        issuers: see :class:`Issuers`; :meth:`follow` gives others later.
        names: DNS names and IP addresses in the server leaves' SAN.
        lifetime_s: of each leaf, at most seven days.
        clock: unix seconds.
        log: a structlog logger.
    """

    def __init__(
        self,
        issuers: Issuers,
        names: Sequence[str],
        *,
        lifetime_s: int,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._issuers = issuers
        self._names = tuple(names)
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._log = log
        self._leaves: _Leaves | None = None
        # When each that is not over ends: a connection opened before a renewal shows the old one.
        self._issued: dict[tuple[str, int], float] = {}
        self._swaps: list[tuple[ContextPlan, Callable[[SSL.Context], None]]] = []
        self._renewing = asyncio.Lock()

    async def renew(self) -> dict[str, int]:
        """Make new keys and leaves and swap them in; returns their ends in unix seconds.

        Connections that are open stay open, with the leaf they were opened with.
        """
        async with self._renewing:
            self._leaves = await asyncio.to_thread(self._make)
            self._remember(self._leaves)
            for plan, swap in self._swaps:
                swap(self.context(plan))
            self._log.info("own_leaves_renewed", ends=self.ends())
            return self.ends()

    async def follow(self, issuers: Issuers) -> None:
        """Have other CAs sign from now on: new keys and leaves, swapped in as at a renewal."""
        self._issuers = issuers
        await self.renew()

    def ends(self) -> dict[str, int]:
        """Return when each leaf ends, in unix seconds."""
        return self._current().ends()

    def context(self, plan: ContextPlan) -> SSL.Context:
        """Build a TLS context with the current leaves.

        The RSA leaf goes alone: boards anchor at the ``server`` CA. The P-256 leaf has that CA
        behind it, for those who anchor at a root (DESIGN 5).
        """
        leaves = self._current()
        return build_context(
            chains=[
                ([leaves.rsa.certificate], leaves.rsa.private_key),
                (
                    [leaves.p256.certificate, *leaves.issuers.behind],
                    leaves.p256.private_key,
                ),
            ],
            client_anchors=plan.client_anchors,
            client_certificate=plan.client_certificate,
            resumable_s=plan.resumable_s,
        )

    def swap_into(self, plan: ContextPlan, swap: Callable[[SSL.Context], None]) -> None:
        """Have ``swap`` called with a new context after every renewal."""
        self._swaps.append((plan, swap))

    async def keep_fresh(self) -> None:
        """Renew at two thirds of life, until cancelled; a failure is logged and tried again."""
        while True:
            await asyncio.sleep(min(max(self._due() - self._clock(), 0.0), _CHECK_EVERY_S))
            if self._clock() < self._due():
                continue
            try:
                await self.renew()
            except Exception as error:
                self._log.error("own_leaves_not_renewed", exc_info=error)
                await asyncio.sleep(_CHECK_EVERY_S)

    def respond(self, query_der: bytes, *, now: datetime) -> bytes:
        """Sign the time (RFC 3161); always a valid answer, maybe a rejection."""
        leaves = self._current()
        leaf = leaves.time_stamp
        key = leaf.private_key
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("boards verify time stamps by RSA only")
        return respond(
            query_der,
            key=key,
            leaf=leaf.certificate,
            chain=leaves.issuers.behind[:1],  # boards ask, and hold that CA
            now=now,
            serial=x509.random_serial_number(),
        )

    def responders(self) -> Sequence[Responder]:
        """Return who answers OCSP requests: one for each CA, but for one that has ended."""
        return self._current().responders

    def issued(self, ca: str, serial: int) -> bool:
        """Tell whether this process issued itself that certificate and it has not ended."""
        return self._issued.get((ca, serial), 0.0) > self._clock()

    def _remember(self, leaves: _Leaves) -> None:
        own = [(leaves.issuers.server.name, pair) for pair in leaves.pairs()]
        own += [(responder.ca, responder.pair) for responder in leaves.responders]
        now = self._clock()
        self._issued = {key: end for key, end in self._issued.items() if end > now} | {
            (ca, pair.certificate.serial_number): _end(pair).timestamp() for ca, pair in own
        }

    def _due(self) -> float:
        begin = self._current().rsa.certificate.not_valid_before_utc.timestamp()
        end = min(self.ends().values())
        return begin + (end - begin) * 2 / 3

    def _make(self) -> _Leaves:
        now = datetime.fromtimestamp(self._clock(), UTC)
        names, lifetime_s = self._names, self._lifetime_s
        issuers = self._issuers
        ca = issuers.server
        return _Leaves(
            issuers,
            issue_server_leaf(ca, key_kind="rsa", names=names, lifetime_s=lifetime_s, now=now),
            issue_server_leaf(ca, key_kind="p256", names=names, lifetime_s=lifetime_s, now=now),
            issue_tsa_leaf(ca, lifetime_s=lifetime_s, now=now),
            tuple(self._make_responders(issuers.answers_for, now)),
        )

    def _make_responders(
        self, authorities: Iterable[Authority], now: datetime
    ) -> Iterator[Responder]:
        for ca in authorities:
            try:
                pair = issue_ocsp_leaf(ca, lifetime_s=self._lifetime_s, now=now)
            except Refused as refused:
                # A CA that has ended must not keep the gateway from renewing the rest.
                self._log.warning("ocsp_responder_left_out", ca=ca.name, reason=str(refused))
            else:
                yield Responder(ca.name, ca.certificate, pair)

    def _current(self) -> _Leaves:
        if self._leaves is None:
            raise RuntimeError("renew() makes the first leaves")
        return self._leaves


def _end(pair: IssuedKeyPair) -> datetime:
    return pair.certificate.not_valid_after_utc
