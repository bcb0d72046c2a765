from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from gateway_kit import Clock
from OpenSSL import SSL

from handfast.errors import UsageError
from handfast.gateway.own_leaf import MAX_LIFETIME_S, ContextPlan, Issuers, OwnLeaves
from handfast.gateway.rows import spki_sha256
from handfast.gateway.service import GatewaySettings
from handfast.pki.authorities import Authority
from handfast.state import StateDir

PLAN = ContextPlan((), "none")


def own_leaves(
    server: Authority,
    clock: Clock,
    *,
    lifetime_s: int = MAX_LIFETIME_S,
    answers_for: Sequence[Authority] = (),
) -> OwnLeaves:
    log = structlog.wrap_logger(structlog.ReturnLogger())
    issuers = Issuers(server, (server.certificate,), tuple(answers_for))
    return OwnLeaves(issuers, ["localhost"], lifetime_s=lifetime_s, clock=clock, log=log)


async def until(condition: asyncio.Event) -> None:
    await asyncio.wait_for(condition.wait(), 20)


def test_leaves_are_renewed_at_two_thirds_of_life_and_swapped_in(
    authorities: dict[str, Authority],
) -> None:
    async def main() -> None:
        clock = Clock(datetime.now(UTC).timestamp())
        leaves = own_leaves(authorities["server"], clock, lifetime_s=3000)
        swapped: list[SSL.Context] = []
        happened = asyncio.Event()

        def swap(context: SSL.Context) -> None:
            swapped.append(context)
            happened.set()

        await leaves.renew()
        leaves.swap_into(PLAN, swap)
        first = leaves.ends()
        clock.now += 1800
        with pytest.raises(TimeoutError):  # nothing to do yet: it sleeps on
            await asyncio.wait_for(leaves.keep_fresh(), 0.2)
        assert swapped == []
        clock.now += 300
        keeping = asyncio.create_task(leaves.keep_fresh())
        await until(happened)
        keeping.cancel()
        assert all(leaves.ends()[name] > end for name, end in first.items())
        assert len(swapped) == 1

    asyncio.run(main())


def test_each_leaf_has_its_own_key_and_new_ones_at_every_renewal(
    authorities: dict[str, Authority],
) -> None:
    async def main() -> None:
        leaves = own_leaves(authorities["server"], Clock(datetime.now(UTC).timestamp()))
        seen = set()
        for _ in range(2):
            await leaves.renew()
            made = leaves._current()
            assert isinstance(made.rsa.private_key, rsa.RSAPrivateKey)
            assert made.rsa.private_key.key_size == 2048
            assert isinstance(made.p256.private_key, ec.EllipticCurvePrivateKey)
            pairs = (made.rsa, made.p256, made.time_stamp)
            seen |= {spki_sha256(pair.certificate) for pair in pairs}
        assert len(seen) == 6

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"names": ()}, {"leaf_lifetime_s": MAX_LIFETIME_S + 1}])
def test_settings_that_make_no_sense_are_refused(
    ca_folder: StateDir, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        GatewaySettings(state=ca_folder, **options)


def test_every_ca_has_a_responder_of_its_own_and_a_new_one_at_every_renewal(
    authorities: dict[str, Authority],
) -> None:
    async def main() -> None:
        cas = [authorities[name] for name in ("device", "factory", "server", "admin")]
        clock = Clock(datetime.now(UTC).timestamp())
        leaves = own_leaves(authorities["server"], clock, answers_for=cas)
        await leaves.renew()
        first = leaves.responders()
        await leaves.renew()
        second = leaves.responders()
        assert [responder.ca for responder in first] == [ca.name for ca in cas]
        for responder, ca in zip(first, cas, strict=True):
            responder.pair.certificate.verify_directly_issued_by(ca.certificate)
        assert len({spki_sha256(r.pair.certificate) for r in (*first, *second)}) == 8

    asyncio.run(main())


def test_own_certificates_are_known_until_they_end_even_when_replaced(
    authorities: dict[str, Authority],
) -> None:
    async def main() -> None:
        clock = Clock(datetime.now(UTC).timestamp())
        device, server = authorities["device"], authorities["server"]
        leaves = own_leaves(server, clock, lifetime_s=3000, answers_for=[device])
        await leaves.renew()
        made = leaves._current()
        own = [("server", pair) for pair in (made.rsa, made.p256, made.time_stamp)]
        own.append(("device", made.responders[0].pair))

        def known() -> set[bool]:
            return {leaves.issued(ca, pair.certificate.serial_number) for ca, pair in own}

        assert known() == {True}
        assert not leaves.issued("device", made.rsa.certificate.serial_number)
        clock.now += 2900
        await leaves.renew()
        assert known() == {True}
        clock.now += 101
        assert known() == {False}
        assert leaves.issued("server", leaves._current().rsa.certificate.serial_number)
        await leaves.renew()
        assert len(leaves._issued) == 8

    asyncio.run(main())


def test_a_ca_that_issues_no_responder_is_left_out_and_the_rest_renewed(
    authorities: dict[str, Authority],
) -> None:
    async def main() -> None:
        server, device = authorities["server"], authorities["device"]
        clock = Clock(datetime.now(UTC).timestamp())
        # The root issues none: refused as a CA past its end is.
        cas = [authorities["root"], device]
        leaves = own_leaves(server, clock, answers_for=cas)
        assert await leaves.renew()
        assert [responder.ca for responder in leaves.responders()] == ["device"]

    asyncio.run(main())
