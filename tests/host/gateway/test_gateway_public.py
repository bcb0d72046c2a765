from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from gateway_rig import Rig, open_rig, slug_of

from handfast.pki.authorities import Authority

Run = Callable[[Callable[[Rig], Awaitable[None]]], None]


@pytest.fixture
def run(tmp_path: Path, authorities: dict[str, Authority]) -> Run:
    def run_case(work: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_rig(tmp_path, authorities) as rig:
                await rig.add("a", "b")
                await work(rig)

        asyncio.run(main())

    return run_case


async def crl(rig: Rig, name: str = "device") -> x509.CertificateRevocationList:
    async with rig.client("public") as client:
        answer = await client.get(f"/crl/{name}.crl")
    assert answer.headers["content-type"] == "application/pkix-crl"
    return x509.load_der_x509_crl(answer.content)


def number(revoked: x509.CertificateRevocationList) -> int:
    return revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


@pytest.mark.parametrize("name", ["root", "device", "factory", "server", "admin"])
def test_every_ca_certificate_is_public(
    run: Run, authorities: dict[str, Authority], name: str
) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("public") as client:
            answer = await client.get(f"/ca/{name}.cer")
        assert answer.headers["content-type"] == "application/pkix-cert"
        assert answer.content == authorities[name].certificate.public_bytes(Encoding.DER)

    run(work)


def test_a_revoked_device_is_on_the_next_list_and_a_suspended_one_is_on_hold(
    run: Run, authorities: dict[str, Authority]
) -> None:
    async def work(rig: Rig) -> None:
        revoked, held = await rig.enrolled("a"), await rig.enrolled("b")
        before = await crl(rig)
        assert list(before) == []
        rig.clock.now += 1
        await rig.admin("POST", "devices/a/revoke")
        await rig.admin("POST", "devices/b/suspend")
        after = await crl(rig)
        assert after.is_signature_valid(authorities["device"].key.public_key())
        assert number(after) > number(before)
        entry = after.get_revoked_certificate_by_serial_number(revoked.serial_number)
        assert entry is not None
        hold = after.get_revoked_certificate_by_serial_number(held.serial_number)
        assert hold is not None
        reason = hold.extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason is x509.ReasonFlags.certificate_hold
        await rig.admin("POST", "devices/b/resume")
        assert [e.serial_number for e in await crl(rig)] == [revoked.serial_number]
        assert list(await crl(rig, "factory")) == []

    run(work)


@pytest.mark.parametrize("name", ["device", "factory", "server", "admin"])
def test_every_issuing_ca_signs_a_list(
    run: Run, authorities: dict[str, Authority], name: str
) -> None:
    async def work(rig: Rig) -> None:
        assert (await crl(rig, name)).is_signature_valid(authorities[name].key.public_key())

    run(work)


def test_the_list_is_not_signed_again_while_nothing_changed(run: Run) -> None:
    async def work(rig: Rig) -> None:
        first = await crl(rig)
        rig.clock.now += 10
        assert number(await crl(rig)) == number(first)

    run(work)


@pytest.mark.parametrize(
    "path", ["/crl/root.crl", "/crl/none.crl", "/ca/none.cer", "/", "/v1/ping"]
)
def test_what_is_not_public_is_not_found(run: Run, path: str) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("public") as client:
            assert slug_of(await client.get(path)) == "not-found"

    run(work)


def test_a_time_stamp_query_has_its_own_content_type_and_size(run: Run) -> None:
    async def work(rig: Rig) -> None:
        typed = {"content-type": "application/timestamp-query"}
        async with rig.client("public") as client:
            assert slug_of(await client.post("/tsa", content=b"")) == "content-type"
            large = await client.post("/tsa", content=b"0" * 5000, headers=typed)
            assert slug_of(large) == "body-too-large"
            answer = await client.post("/tsa", content=b"nonsense", headers=typed)
        # RFC 3161 section 2.4.2: a rejection is an answer too; status 2 stands in it.
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/timestamp-reply"
        assert b"\x02\x01\x02" in answer.content

    run(work)
