from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from gateway_kit import Requester
from gateway_rig import CSR_TYPE, Rig, certificate_of, open_rig, slug_of

from handfast.pki.authorities import Authority

EST = "/.well-known/est"
Run = Callable[[Callable[[Rig], Awaitable[None]]], None]


@pytest.fixture
def run(tmp_path: Path, authorities: dict[str, Authority]) -> Run:
    def run_case(work: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_rig(tmp_path, authorities, overlap_s=2) as rig:
                await rig.add("a", "b")
                await work(rig)

        asyncio.run(main())

    return run_case


def test_a_leaf_is_named_by_the_registry_whatever_the_request_says(run: Run) -> None:
    async def work(rig: Rig) -> None:
        key = Requester.new()
        body = base64.b64encode(key.csr_der(common_name="b"))
        async with rig.client("enrol") as client:
            answer = await client.post(
                f"{EST}/simpleenroll", content=body, headers=CSR_TYPE, auth=("a", await rig.token())
            )
        leaf = certificate_of(answer)
        (name,) = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == "a"
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(san) == [x509.UniformResourceIdentifier("spiffe://example.test/device/a")]
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert leaf.public_key() == key.key.public_key()

    run(work)


def test_cacerts_holds_root_and_issuing_cas_in_base64(
    run: Run, authorities: dict[str, Authority]
) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("enrol") as client:
            answer = await client.get(f"{EST}/cacerts")
        assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
        found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
        names = ("root", "server", "device", "factory")
        assert set(found) == {authorities[name].certificate for name in names}

    run(work)


def test_csrattrs_asks_for_p256_and_sha256(run: Run) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("enrol") as client:
            answer = await client.get(f"{EST}/csrattrs")
        assert answer.headers["content-type"] == "application/csrattrs"
        der = base64.b64decode(answer.content)
        assert der[:2] == bytes([0x30, len(der) - 2])
        for oid in ("06072a8648ce3d0201", "06082a8648ce3d030107", "06082a8648ce3d040302"):
            assert bytes.fromhex(oid) in der

    run(work)


def test_the_label_device_selects_the_same_profile_and_others_are_not_there(run: Run) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("enrol") as client:
            assert (await client.get(f"{EST}/device/cacerts")).status_code == 200
            assert slug_of(await client.get(f"{EST}/router/cacerts")) == "not-found"
            assert slug_of(await client.post(f"{EST}/cacerts")) == "method-not-allowed"

    run(work)


@pytest.mark.parametrize(
    "spell",
    [
        base64.b64encode,
        base64.encodebytes,
        lambda der: base64.encodebytes(der).replace(b"\n", b"\r\n"),
        lambda der: b" \n" + base64.b64encode(der) + b"\n\n",
    ],
    ids=["one-line", "lines", "crlf", "padded"],
)
def test_base64_is_read_with_and_without_line_breaks(
    run: Run, spell: Callable[[bytes], bytes]
) -> None:
    async def work(rig: Rig) -> None:
        headers = {"content-type": "application/pkcs10; charset=x", "authorization": ""}
        token = base64.b64encode(f"a:{await rig.token()}".encode()).decode()
        headers["authorization"] = f"basic {token}"
        async with rig.client("enrol") as client:
            body = spell(Requester.new().csr_der())
            certificate_of(await client.post(f"{EST}/simpleenroll", content=body, headers=headers))

    run(work)


def tampered() -> bytes:
    der = bytearray(Requester.new().csr_der())
    der[-1] ^= 1
    return base64.b64encode(bytes(der))


def weak(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return base64.b64encode(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("body", "content_type", "slug"),
    [
        (b"", "application/pkcs10", "csr-malformed"),
        (b"!!!!", "application/pkcs10", "csr-malformed"),
        (b"AAAA", "application/pkcs10", "csr-malformed"),
        (base64.b64encode(b"0" * 9000), "application/pkcs10", "csr-malformed"),
        (b"A" * 20_000, "application/pkcs10", "body-too-large"),
        (tampered(), "application/pkcs10", "csr-signature"),
        (weak(rsa.generate_private_key(65537, 2048)), "application/pkcs10", "csr-weak-key"),
        (weak(ec.generate_private_key(ec.SECP384R1())), "application/pkcs10", "csr-weak-key"),
        (base64.b64encode(Requester.new().csr_der()), "text/plain", "content-type"),
    ],
    ids=[
        "empty", "not-base64", "not-der", "zeros", "huge", "tampered", "rsa", "p384", "wrong-type"
    ],
)  # fmt: skip
def test_a_bad_request_for_a_certificate_does_not_cost_the_token(
    run: Run, body: bytes, content_type: str, slug: str
) -> None:
    async def work(rig: Rig) -> None:
        token = await rig.token()
        async with rig.client("enrol") as client:
            answer = await client.post(
                f"{EST}/simpleenroll",
                content=body,
                headers={"content-type": content_type},
                auth=("a", token),
            )
        assert slug_of(answer) == slug
        certificate_of(await rig.enrol(Requester.new(), token=token))

    run(work)


def test_enrolling_without_a_credential_is_challenged(run: Run) -> None:
    async def work(rig: Rig) -> None:
        answer = await rig.enrol(Requester.new())
        assert slug_of(answer) == "token-missing"
        assert answer.headers["www-authenticate"] == 'Basic realm="handfast"'

    run(work)


@pytest.mark.parametrize(
    "authorization",
    ["Basic", "Basic !", "Basic YQ==", "Bearer x", "Basic " + "A" * 5000, "Basic //8="],
)
def test_malformed_credentials_are_refused(run: Run, authorization: str) -> None:
    async def work(rig: Rig) -> None:
        async with rig.client("enrol") as client:
            headers = {**CSR_TYPE, "authorization": authorization}
            answer = await client.post(f"{EST}/simpleenroll", content=b"", headers=headers)
        assert answer.status_code == 401
        assert slug_of(answer).startswith("token-")

    run(work)


def test_the_factory_identity_enrols_its_own_device(run: Run) -> None:
    async def work(rig: Rig) -> None:
        identity = await rig.idevid(Requester.new())
        leaf = certificate_of(await rig.enrol(Requester.new(), certificate=identity))
        assert (await rig.ping(leaf)).json()["device_id"] == "a"

    run(work)


def test_each_operation_takes_its_own_kind_of_certificate(run: Run) -> None:
    async def work(rig: Rig) -> None:
        identity = await rig.idevid(Requester.new())
        leaf = await rig.enrolled()
        new = Requester.new()
        assert slug_of(await rig.enrol(new, certificate=leaf)) == "wrong-certificate-kind"
        again = await rig.enrol(new, certificate=identity, operation="simplereenroll")
        assert slug_of(again) == "wrong-certificate-kind"
        assert slug_of(await rig.enrol(new, operation="simplereenroll")) == "no-certificate"
        certificate_of(await rig.enrol(new, certificate=leaf, operation="simplereenroll"))

    run(work)


def test_a_device_cannot_bring_another_devices_token(run: Run) -> None:
    async def work(rig: Rig) -> None:
        leaf, identity = await rig.enrolled("b"), await rig.idevid(Requester.new(), "b")
        token = await rig.token("a")
        for certificate in (leaf, identity):
            answer = await rig.enrol(Requester.new(), token=token, certificate=certificate)
            assert slug_of(answer) == "not-your-path"

    run(work)


def test_a_token_of_another_device_is_unknown(run: Run) -> None:
    async def work(rig: Rig) -> None:
        token = await rig.token("a")
        answer = await rig.enrol(Requester.new(), device_id="b", token=token)
        assert slug_of(answer) == "token-unknown"

    run(work)


def test_the_same_key_gets_the_same_answer_until_its_first_request(run: Run) -> None:
    async def work(rig: Rig) -> None:
        key, token = Requester.new(), await rig.token()
        first = certificate_of(await rig.enrol(key, token=token))
        assert certificate_of(await rig.enrol(key, token=token)) == first
        assert slug_of(await rig.enrol(Requester.new(), token=token)) == "token-used"
        await rig.ping(first)
        assert slug_of(await rig.enrol(key, token=token)) == "token-used"

    run(work)


def test_re_enrolment_wants_a_fresh_key(run: Run) -> None:
    async def work(rig: Rig) -> None:
        key = Requester.new()
        leaf = certificate_of(await rig.enrol(key, token=await rig.token()))
        await rig.ping(leaf)
        answer = await rig.enrol(key, certificate=leaf, operation="simplereenroll")
        assert slug_of(answer) == "key-reused"

    run(work)


def test_no_secret_is_logged(run: Run) -> None:
    async def work(rig: Rig) -> None:
        key, token = Requester.new(), await rig.token()
        certificate_of(await rig.enrol(key, token=token))
        everything = repr(rig.log)
        assert "simpleenroll" in everything
        assert token not in everything
        assert base64.b64encode(f"a:{token}".encode()).decode() not in everything

    run(work)
