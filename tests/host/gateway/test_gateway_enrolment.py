from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway_kit import (
    Clock,
    Requester,
    add_device,
    create_token,
    fresh_csr,
    issuer,
    open_registry,
)

from handfast.gateway import devices, enrolment
from handfast.gateway.enrolment import Issue, Issued, Refusal
from handfast.gateway.problems import Problem
from handfast.gateway.registry import Registry
from handfast.gateway.view import CertificateState, DeviceState
from handfast.pki.csr import ParsedCsr


class Case:
    """One open registry with the devices a and b, and shorthand for what is done to it."""

    def __init__(self, registry: Registry, clock: Clock, issue: Issue) -> None:
        self.registry = registry
        self.clock = clock
        self.issue = issue

    async def by_token(
        self, token: bytes, csr: ParsedCsr, device_id: str = "a"
    ) -> Issued | Refusal:
        return await self.registry.write(
            lambda tx: enrolment.enrol_by_token(
                tx, device_id=device_id, token_sha256=token, csr=csr, issue=self.issue
            )
        )

    async def by_certificate(self, sha256: bytes, csr: ParsedCsr) -> Issued | Refusal:
        return await self.registry.write(
            lambda tx: enrolment.enrol_by_certificate(
                tx, certificate_sha256=sha256, csr=csr, issue=self.issue
            )
        )

    async def idevid(self, csr: ParsedCsr, device_id: str = "a") -> Issued:
        return await self.registry.write(
            lambda tx: enrolment.issue_idevid(tx, device_id=device_id, csr=csr, issue=self.issue)
        )

    async def use(self, issued: Issued | Refusal) -> bytes:
        """Make the certificate's first API request; returns its SHA-256."""
        sha256 = self.sha256(issued)
        await self.registry.write(lambda tx: enrolment.switch(tx, certificate_sha256=sha256))
        return sha256

    async def set_state(self, state: DeviceState, device_id: str = "a") -> None:
        await self.registry.write(
            lambda tx: devices.set_device_state(tx, device_id=device_id, state=state)
        )

    def sha256(self, issued: Issued | Refusal) -> bytes:
        assert isinstance(issued, Issued)
        records = self.registry.view.certificates.values()
        return next(r.sha256 for r in records if r.serial == issued.serial)

    def state(self, sha256: bytes) -> CertificateState:
        return self.registry.view.certificates[sha256].state

    async def audited(self, event: str) -> int:
        return sum(row["event"] == event for row in await self.registry.audit("a"))


Run = Callable[[Callable[[Case], Awaitable[None]]], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a coroutine function on an open registry."""

    def run_case(work: Callable[[Case], Awaitable[None]]) -> None:
        async def main() -> None:
            clock = Clock()
            async with open_registry(tmp_path, clock) as registry:
                for device_id in ("a", "b"):
                    await add_device(registry, device_id)
                await work(Case(registry, clock, issuer(clock)))

        asyncio.run(main())

    return run_case


def test_a_token_gives_the_same_certificate_to_the_same_key_until_it_is_used(run: Run) -> None:
    async def work(case: Case) -> None:
        token, csr = await create_token(case.registry, "a"), fresh_csr()
        first, again = await case.by_token(token, csr), await case.by_token(token, csr)
        assert isinstance(first, Issued)
        assert isinstance(again, Issued)
        assert first.der == again.der
        assert (first.repeated, again.repeated) == (False, True)
        await case.use(first)
        assert await case.by_token(token, csr) == Refusal("token-used")

    run(work)


def test_a_token_refuses_a_second_key_and_the_attempt_is_audited(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        await case.by_token(token, fresh_csr())
        assert await case.by_token(token, fresh_csr()) == Refusal("token-used")
        assert await case.audited("token-refused") == 1

    run(work)


def test_two_keys_that_race_for_a_token_get_one_certificate(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        requests = [case.by_token(token, fresh_csr()) for _ in range(8)]
        outcomes = await asyncio.gather(*requests)
        assert sum(isinstance(outcome, Issued) for outcome in outcomes) == 1
        assert outcomes.count(Refusal("token-used")) == 7

    run(work)


def test_a_token_is_good_for_its_own_device_only(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        assert await case.by_token(token, fresh_csr(), "b") == Refusal("token-unknown")
        assert await case.by_token(b"\x00" * 32, fresh_csr()) == Refusal("token-unknown")
        assert await case.by_token(token, fresh_csr(), "c") == Refusal("token-unknown")

    run(work)


def test_a_token_expires_but_the_key_that_bound_it_in_time_still_gets_its_certificate(
    run: Run,
) -> None:
    async def work(case: Case) -> None:
        bound = await create_token(case.registry, "a", lifetime_s=60)
        idle = await create_token(case.registry, "a", lifetime_s=60)
        csr = fresh_csr()
        first = await case.by_token(bound, csr)
        case.clock.now += 61
        again = await case.by_token(bound, csr)
        assert isinstance(first, Issued)
        assert isinstance(again, Issued)
        assert again.serial == first.serial
        assert await case.by_token(idle, fresh_csr()) == Refusal("token-expired")
        assert await case.by_token(idle, csr) == Refusal("token-expired")
        case.clock.now += 3600  # its certificate has ended, unused
        assert await case.by_token(bound, csr) == Refusal("token-expired")

    run(work)


def test_a_device_has_a_bounded_number_of_tokens(run: Run) -> None:
    async def work(case: Case) -> None:
        first = await create_token(case.registry, "a")
        for _ in range(99):
            await create_token(case.registry, "a")
        with pytest.raises(Problem, match="too-busy"):
            await create_token(case.registry, "a")
        await create_token(case.registry, "b")
        await case.use(await case.by_token(first, fresh_csr()))
        await create_token(case.registry, "a")
        assert len((await case.registry.device("a"))["tokens"]) == 100
        case.clock.now += 61
        await create_token(case.registry, "a")
        assert len((await case.registry.device("a"))["tokens"]) == 1

    run(work)


def test_a_refused_request_does_not_bind_the_token(run: Run) -> None:
    async def work(case: Case) -> None:
        foreign = fresh_csr()
        await case.by_token(await create_token(case.registry, "b"), foreign, "b")
        token = await create_token(case.registry, "a")
        assert await case.by_token(token, foreign) == Refusal("key-reused")
        assert isinstance(await case.by_token(token, fresh_csr()), Issued)

    run(work)


def test_re_enrolment_has_one_unconfirmed_successor_and_a_newer_one_replaces_it(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        leaf = await case.use(await case.by_token(token, fresh_csr()))
        csr = fresh_csr()
        first = await case.by_certificate(leaf, csr)
        again = await case.by_certificate(leaf, csr)
        assert case.sha256(first) == case.sha256(again)
        second = await case.by_certificate(leaf, fresh_csr())
        assert case.state(case.sha256(first)) is CertificateState.REPLACED
        assert case.state(case.sha256(second)) is CertificateState.PENDING
        assert case.state(leaf) is CertificateState.CURRENT
        record = case.registry.view.certificates[case.sha256(first)]
        assert ("device", record.serial) in case.registry.view.revocations

    run(work)


def test_the_first_api_request_supersedes_the_leaf_before(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        old = await case.use(await case.by_token(token, fresh_csr()))
        new = await case.by_certificate(old, fresh_csr())
        case.clock.now += 5
        await case.use(new)
        assert case.state(old) is CertificateState.SUPERSEDED
        assert case.registry.view.certificates[old].switched_at == case.clock.now
        assert case.state(case.sha256(new)) is CertificateState.CURRENT

    run(work)


def test_a_superseded_leaf_cannot_re_enrol_and_the_attempt_is_audited(run: Run) -> None:
    """Who stole it would evict the board: a second confirmed leaf supersedes the board's own."""

    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        old = await case.use(await case.by_token(token, fresh_csr()))
        new = await case.use(await case.by_certificate(old, fresh_csr()))
        assert await case.by_certificate(old, fresh_csr()) == Refusal("certificate-superseded")
        assert case.state(new) is CertificateState.CURRENT
        assert len(case.registry.view.certificates) == 2
        refused = [r for r in await case.registry.audit("a") if r["event"] == "re-enrol-refused"]
        serial = case.registry.view.certificates[old].serial
        assert [row["detail"] for row in refused] == [f"by the superseded ldevid {serial}"]

    run(work)


def test_the_audit_says_which_credential_asked_for_each_leaf(run: Run) -> None:
    async def work(case: Case) -> None:
        identity = await case.idevid(fresh_csr())
        token = await create_token(case.registry, "a")
        first = await case.by_token(token, fresh_csr())
        second = await case.by_certificate(await case.use(first), fresh_csr())
        third = await case.by_certificate(case.sha256(identity), fresh_csr())
        assert isinstance(first, Issued)
        assert isinstance(second, Issued)
        assert isinstance(third, Issued)
        issued = [r["detail"] for r in await case.registry.audit("a") if r["event"] == "issued"]
        assert issued == [
            f"{first.serial} by a token",
            f"{second.serial} by ldevid {first.serial}",
            f"{third.serial} by idevid {identity.serial}",
        ]

    run(work)


def test_a_successor_of_an_unconfirmed_leaf_survives_that_leaf_being_confirmed(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        first = await case.by_token(token, fresh_csr())
        second = await case.by_certificate(case.sha256(first), fresh_csr())
        third = await case.by_certificate(case.sha256(second), fresh_csr())
        await case.use(first)
        assert case.state(case.sha256(second)) is CertificateState.PENDING
        assert case.state(case.sha256(third)) is CertificateState.PENDING
        await case.use(third)
        assert case.state(case.sha256(second)) is CertificateState.REPLACED
        assert case.state(case.sha256(first)) is CertificateState.SUPERSEDED

    run(work)


def test_a_key_that_was_ever_used_is_not_certified_again(run: Run) -> None:
    async def work(case: Case) -> None:
        key = Requester.new()
        token = await create_token(case.registry, "a")
        leaf = await case.use(await case.by_token(token, key.csr()))
        assert await case.by_certificate(leaf, key.csr()) == Refusal("key-reused")
        assert await case.audited("key-reused") == 1
        factory_key = Requester.new()
        await case.idevid(factory_key.csr())
        assert await case.by_certificate(leaf, factory_key.csr()) == Refusal("key-reused")

    run(work)


def test_an_unconfirmed_key_may_come_back_by_another_credential(run: Run) -> None:
    """A board whose leaf ended while its successor's answer was lost has only its IDevID left."""

    async def work(case: Case) -> None:
        identity = case.sha256(await case.idevid(fresh_csr()))
        leaf = await case.use(
            await case.by_token(await create_token(case.registry, "a"), fresh_csr())
        )
        csr = fresh_csr()
        lost = await case.by_certificate(leaf, csr)
        again = await case.by_certificate(identity, csr)
        assert isinstance(lost, Issued)
        assert isinstance(again, Issued)
        assert lost.serial == again.serial
        case.clock.now += 3601
        renewed = await case.by_certificate(identity, csr)
        assert isinstance(renewed, Issued)
        assert renewed.serial != lost.serial

    run(work)


@pytest.mark.parametrize(
    ("state", "slug"),
    [(DeviceState.SUSPENDED, "device-suspended"), (DeviceState.REVOKED, "device-revoked")],
)
def test_every_credential_of_a_stopped_device_is_refused(
    run: Run, state: DeviceState, slug: str
) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        used = await create_token(case.registry, "a")
        identity = case.sha256(await case.idevid(fresh_csr()))
        leaf = await case.use(await case.by_token(used, fresh_csr()))
        await case.set_state(state)
        assert await case.by_token(token, fresh_csr()) == Refusal(slug)
        assert await case.by_certificate(identity, fresh_csr()) == Refusal(slug)
        assert await case.by_certificate(leaf, fresh_csr()) == Refusal(slug)
        with pytest.raises(Problem, match=slug):
            await case.idevid(fresh_csr())
        with pytest.raises(Problem, match=slug):
            await create_token(case.registry, "a")

    run(work)


def test_resuming_gives_a_suspended_device_its_credentials_back(run: Run) -> None:
    async def work(case: Case) -> None:
        token = await create_token(case.registry, "a")
        await case.set_state(DeviceState.SUSPENDED)
        await case.set_state(DeviceState.ACTIVE)
        assert isinstance(await case.by_token(token, fresh_csr()), Issued)

    run(work)


@pytest.mark.parametrize("state", [DeviceState.ACTIVE, DeviceState.SUSPENDED])
def test_revocation_is_final(run: Run, state: DeviceState) -> None:
    async def work(case: Case) -> None:
        await case.set_state(DeviceState.REVOKED)
        with pytest.raises(Problem, match="device-revoked"):
            await case.set_state(state)
        assert case.registry.view.devices["a"].state is DeviceState.REVOKED

    run(work)


def test_revocation_puts_every_live_certificate_on_its_cas_list(run: Run) -> None:
    async def work(case: Case) -> None:
        identity = await case.idevid(fresh_csr())
        leaf = await case.by_token(await create_token(case.registry, "a"), fresh_csr())
        assert isinstance(leaf, Issued)
        other = await case.by_token(await create_token(case.registry, "b"), fresh_csr(), "b")
        assert isinstance(other, Issued)
        await case.set_state(DeviceState.REVOKED)
        view = case.registry.view
        assert [r.serial for r in view.revoked_by("device")] == [leaf.serial]
        assert [r.serial for r in view.revoked_by("factory")] == [identity.serial]

    run(work)


def test_a_suspended_devices_certificates_are_on_hold(run: Run) -> None:
    async def work(case: Case) -> None:
        leaf = await case.by_token(await create_token(case.registry, "a"), fresh_csr())
        assert isinstance(leaf, Issued)
        before = case.registry.view.revocation_version
        await case.set_state(DeviceState.SUSPENDED)
        assert case.registry.view.revocation_version > before
        listed = list(case.registry.view.revoked_by("device"))
        assert [(r.serial, r.reason) for r in listed] == [(leaf.serial, "certificate_hold")]
        await case.set_state(DeviceState.ACTIVE)
        assert list(case.registry.view.revoked_by("device")) == []

    run(work)


def test_a_new_factory_identity_supersedes_the_one_before_and_is_audited(run: Run) -> None:
    async def work(case: Case) -> None:
        key = Requester.new()
        first, again = await case.idevid(key.csr()), await case.idevid(key.csr())
        assert first.der == again.der
        second = await case.idevid(fresh_csr())
        assert case.state(case.sha256(first)) is CertificateState.REVOKED
        assert case.state(case.sha256(second)) is CertificateState.CURRENT
        assert await case.audited("idevid-superseded") == 1
        refused = await case.by_certificate(case.sha256(first), fresh_csr())
        assert refused == Refusal("certificate-revoked")

    run(work)
