from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus
from gateway_kit import Clock, Requester
from gateway_rig import OWN_SERIAL, Rig, certificate_of, open_rig, slug_of

from handfast.gateway.view import (
    CertificateKind,
    CertificateRecord,
    CertificateState,
    DeviceRecord,
    DeviceState,
    RegistryView,
)
from handfast.pki.authorities import Authority

Run = Callable[[Callable[[Rig], Awaitable[None]]], None]
TYPE = {"content-type": "application/ocsp-request"}


@pytest.fixture
def run(tmp_path: Path, authorities: dict[str, Authority]) -> Run:
    def run_case(work: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_rig(tmp_path, authorities) as rig:
                await rig.add("a", "b")
                await work(rig)

        asyncio.run(main())

    return run_case


def question(issuer: x509.Certificate, serial: int) -> bytes:
    """Return a request about a serial number, by way of a certificate that bears it."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = issuer.not_valid_before_utc
    bearer = x509.CertificateBuilder(issuer.subject, x509.Name([]), key.public_key(), serial)
    bearer = bearer.not_valid_before(start).not_valid_after(start)
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        bearer.sign(key, hashes.SHA256()), issuer, hashes.SHA256()
    )
    return builder.build().public_bytes(Encoding.DER)


async def ask(rig: Rig, ca: str, serial: int) -> ocsp.OCSPResponse:
    async with rig.client("public") as client:
        asked = question(rig.gateway.certificates[ca], serial)
        answer = await client.post("/ocsp", content=asked, headers=TYPE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/ocsp-response"
    assert answer.headers["cache-control"] == "no-store"
    return ocsp.load_der_ocsp_response(answer.content)


async def status(rig: Rig, ca: str, serial: int) -> OCSPCertStatus:
    return (await ask(rig, ca, serial)).certificate_status


async def listed(rig: Rig, ca: str = "device") -> dict[int, x509.ReasonFlags]:
    async with rig.client("public") as client:
        answer = await client.get(f"/crl/{ca}.crl")
    assert answer.headers["cache-control"] == "no-store"
    return {
        entry.serial_number: entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        for entry in x509.load_der_x509_crl(answer.content)
    }


def test_an_issued_certificate_is_good_whether_used_yet_or_not(run: Run) -> None:
    async def work(rig: Rig) -> None:
        pending, current = await rig.enrolled("a", use=False), await rig.enrolled("b")
        factory = await rig.idevid(Requester.new())
        assert await status(rig, "device", pending.serial_number) is OCSPCertStatus.GOOD
        assert await status(rig, "device", current.serial_number) is OCSPCertStatus.GOOD
        assert await status(rig, "factory", factory.serial_number) is OCSPCertStatus.GOOD

    run(work)


def test_a_serial_number_that_its_ca_did_not_issue_is_unknown(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled("a")
        assert await status(rig, "device", leaf.serial_number + 1) is OCSPCertStatus.UNKNOWN
        assert await status(rig, "factory", leaf.serial_number) is OCSPCertStatus.UNKNOWN

    run(work)


def test_list_and_answer_say_revoked_as_soon_as_revoke_returns(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf, factory = await rig.enrolled("a"), await rig.idevid(Requester.new())
        other = await rig.enrolled("b")
        assert await listed(rig) == await listed(rig, "factory") == {}
        await rig.admin("POST", "devices/a/revoke")
        reason = x509.ReasonFlags.privilege_withdrawn
        for ca, revoked in (("device", leaf), ("factory", factory)):
            serial = revoked.serial_number
            answer = await ask(rig, ca, serial)
            assert answer.certificate_status is OCSPCertStatus.REVOKED
            assert answer.revocation_time_utc == rig.gateway.now().replace(microsecond=0)
            assert answer.revocation_reason is reason
            assert await listed(rig, ca) == {serial: reason}
        assert await status(rig, "device", other.serial_number) is OCSPCertStatus.GOOD

    run(work)


def test_a_suspended_device_is_on_hold_until_it_is_resumed(run: Run) -> None:
    async def work(rig: Rig) -> None:
        serial = (await rig.enrolled("a")).serial_number
        await rig.admin("POST", "devices/a/suspend")
        held = await ask(rig, "device", serial)
        assert held.certificate_status is OCSPCertStatus.REVOKED
        assert held.revocation_reason is x509.ReasonFlags.certificate_hold
        assert await listed(rig) == {serial: x509.ReasonFlags.certificate_hold}
        await rig.admin("POST", "devices/a/resume")
        assert await status(rig, "device", serial) is OCSPCertStatus.GOOD
        assert await listed(rig) == {}

    run(work)


def test_a_leaf_that_a_newer_one_replaced_is_revoked_as_superseded(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf = await rig.enrolled("a")

        async def renew() -> x509.Certificate:
            key = Requester.new()
            return certificate_of(
                await rig.enrol(key, certificate=leaf, operation="simplereenroll")
            )

        replaced, kept = await renew(), await renew()
        answer = await ask(rig, "device", replaced.serial_number)
        assert answer.revocation_reason is x509.ReasonFlags.superseded
        assert await listed(rig) == {replaced.serial_number: x509.ReasonFlags.superseded}
        assert await status(rig, "device", kept.serial_number) is OCSPCertStatus.GOOD

    run(work)


def test_the_gateways_own_certificate_is_good_under_the_server_ca_alone(run: Run) -> None:
    async def work(rig: Rig) -> None:
        assert await status(rig, "server", OWN_SERIAL) is OCSPCertStatus.GOOD
        assert await status(rig, "server", OWN_SERIAL + 1) is OCSPCertStatus.UNKNOWN
        assert await status(rig, "device", OWN_SERIAL) is OCSPCertStatus.UNKNOWN

    run(work)


def test_an_administrators_certificate_is_issued_without_the_gateway_and_unknown(run: Run) -> None:
    async def work(rig: Rig) -> None:
        assert await status(rig, "admin", 1) is OCSPCertStatus.UNKNOWN
        assert await listed(rig, "admin") == {}

    run(work)


def test_the_root_whose_key_is_not_loaded_is_not_answered_for(run: Run) -> None:
    async def work(rig: Rig) -> None:
        answer = await ask(rig, "root", 1)
        assert answer.response_status is OCSPResponseStatus.UNAUTHORIZED

    run(work)


def test_a_request_may_come_in_the_path_in_base64(run: Run) -> None:
    async def work(rig: Rig) -> None:
        serial = (await rig.enrolled("a")).serial_number
        text = base64.b64encode(question(rig.gateway.certificates["device"], serial)).decode()
        async with rig.client("public") as client:
            for path in (quote(text, safe=""), text):
                answer = ocsp.load_der_ocsp_response((await client.get(f"/ocsp/{path}")).content)
                assert answer.certificate_status is OCSPCertStatus.GOOD
                assert answer.serial_number == serial

    run(work)


@pytest.mark.parametrize("path", ["", "%", "A", "AAAA", "%C3%A9", "MEIw+QDA/AAA="])
def test_a_path_that_is_no_request_is_malformed(run: Run, path: str) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("public") as client:
            answer = await client.get(f"/ocsp/{path}")
        assert answer.status_code == 200
        malformed = OCSPResponseStatus.MALFORMED_REQUEST
        assert ocsp.load_der_ocsp_response(answer.content).response_status is malformed

    run(work)


def test_a_posted_request_has_its_own_content_type_and_size(run: Run) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("public") as client:
            assert slug_of(await client.post("/ocsp", content=b"")) == "content-type"
            large = await client.post("/ocsp", content=b"0" * 5000, headers=TYPE)
            assert slug_of(large) == "body-too-large"
            assert slug_of(await client.get("/ocsp")) == "method-not-allowed"
            junk = await client.post("/ocsp", content=b"nonsense", headers=TYPE)
        malformed = OCSPResponseStatus.MALFORMED_REQUEST
        assert ocsp.load_der_ocsp_response(junk.content).response_status is malformed

    run(work)


# The view below the answers


def record(clock: Clock, *, not_after: int) -> CertificateRecord:
    return CertificateRecord(
        sha256=b"x" * 32,
        device_id="a",
        kind=CertificateKind.LDEVID,
        ca="device",
        serial="ff",
        not_before=int(clock()) - 100,
        not_after=not_after,
        state=CertificateState.CURRENT,
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (DeviceState.ACTIVE, None),
        (DeviceState.SUSPENDED, "certificate_hold"),
        (DeviceState.REVOKED, "privilege_withdrawn"),
    ],
)
def test_a_certificate_that_had_ended_shares_the_fate_of_its_device(
    state: DeviceState, reason: str | None
) -> None:
    clock, view = Clock(), RegistryView()
    device = DeviceRecord("a", None, state, clock())
    view.apply([device, record(clock, not_after=int(clock()) - 1)])
    found = view.revocation("device", "ff")
    assert (found and found.reason) == reason
    assert list(view.revoked_by("device")) == ([found] if found else [])
    assert view.revocation("factory", "ff") is None


def test_what_is_forgotten_is_forgotten_by_its_serial_number_too() -> None:
    clock, view = Clock(), RegistryView()
    device = DeviceRecord("a", None, DeviceState.REVOKED, clock())
    view.apply([device, record(clock, not_after=int(clock()) - 10)])
    view.forget_expired(clock() - 10)
    assert ("device", "ff") in view.by_serial
    view.forget_expired(clock())
    assert view.certificates == view.by_serial == {}
    assert view.revocation("device", "ff") is None
