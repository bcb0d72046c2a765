from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pki_kit import NOW
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc3161, rfc5035, rfc5652

from handfast.pki import der
from handfast.pki.authorities import Authority
from handfast.pki.issue import issue_tsa_leaf
from handfast.pki.timestamp import MAX_QUERY_BYTES, respond
from handfast.wire import TSA_POLICY_OID

_SHA256 = "2.16.840.1.101.3.4.2.1"
_SHA1 = "1.3.14.3.2.26"
_IMPRINT = hashlib.sha256(b"any bytes").digest()
_EXTENSION = der.sequence(der.oid("1.2.3.4"), der.tlv(der.BOOLEAN, b"\xff"), der.octets(b"x"))

_once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@dataclass(frozen=True)
class Tsa:
    key: rsa.RSAPrivateKey
    leaf: x509.Certificate
    issuer: x509.Certificate

    def ask(self, query: bytes, *, now: datetime = NOW, serial: int = 7) -> bytes:
        return respond(
            query, key=self.key, leaf=self.leaf, chain=[self.issuer], now=now, serial=serial
        )


@pytest.fixture(scope="session")
def tsa(authorities: dict[str, Authority]) -> Tsa:
    server = authorities["server"]
    made = server.certificate.not_valid_before_utc + timedelta(hours=2)
    pair = issue_tsa_leaf(server, lifetime_s=86_400, now=made)
    assert isinstance(pair.private_key, rsa.RSAPrivateKey)
    return Tsa(pair.private_key, pair.certificate, server.certificate)


def _query(
    *,
    version: int = 1,
    algorithm: str = _SHA256,
    parameters: bytes = b"\x05\x00",
    imprint: bytes = _IMPRINT,
    rest: bytes = b"",
) -> bytes:
    hashed = der.sequence(der.sequence(der.oid(algorithm), parameters), der.octets(imprint))
    return der.sequence(der.integer(version), hashed, rest)


_WANT_CERTIFICATES = der.tlv(der.BOOLEAN, b"\xff")


def _decode(reply: bytes, spec: Any) -> Any:
    decoded, rest = decoder.decode(reply, asn1Spec=spec)
    assert rest == b""
    return decoded


def _failure(reply: bytes) -> str:
    """Return the one failInfo of a rejection."""
    response = _decode(reply, rfc3161.TimeStampResp())
    assert int(response["status"]["status"]) == 2
    assert not response["timeStampToken"].isValue
    bits = response["status"]["failInfo"]
    names = {number: name for name, number in rfc3161.PKIFailureInfo.namedValues.items()}
    (number,) = (position for position, bit in enumerate(bits) if bit)
    assert len(str(response["status"]["statusString"][0])) > 0
    return str(names[number])


def _signed_data(reply: bytes) -> Any:
    response = _decode(reply, rfc3161.TimeStampResp())
    assert int(response["status"]["status"]) == 0
    token = response["timeStampToken"]
    assert token["contentType"] == rfc5652.id_signedData
    signed = _decode(bytes(token["content"]), rfc5652.SignedData())
    assert encoder.encode(signed) == bytes(token["content"])
    return signed


def _info(reply: bytes) -> Any:
    content = _signed_data(reply)["encapContentInfo"]
    assert content["eContentType"] == rfc3161.id_ct_TSTInfo
    return _decode(bytes(content["eContent"]), rfc3161.TSTInfo())


def _attributes(signer: Any) -> dict[str, bytes]:
    found = {}
    for attribute in signer["signedAttrs"]:
        (value,) = attribute["attrValues"]
        found[str(attribute["attrType"])] = bytes(value)
    return found


def test_the_token_says_what_was_asked_and_when(tsa: Tsa) -> None:
    info = _info(tsa.ask(_query(rest=der.integer(4711)), serial=99))
    assert int(info["version"]) == 1
    assert str(info["policy"]) == TSA_POLICY_OID
    assert str(info["messageImprint"]["hashAlgorithm"]["algorithm"]) == _SHA256
    assert bytes(info["messageImprint"]["hashedMessage"]) == _IMPRINT
    assert int(info["serialNumber"]) == 99
    assert str(info["genTime"]) == "20261124120000Z"
    assert int(info["accuracy"]["seconds"]) == 1
    assert int(info["nonce"]) == 4711
    assert not info["extensions"].isValue


def test_the_signature_covers_the_attributes_and_they_cover_the_content(tsa: Tsa) -> None:
    signed = _signed_data(tsa.ask(_query()))
    assert int(signed["version"]) == 3
    (signer,) = signed["signerInfos"]
    assert int(signer["version"]) == 1
    sid = signer["sid"]["issuerAndSerialNumber"]
    assert encoder.encode(sid["issuer"]) == tsa.leaf.issuer.public_bytes()
    assert int(sid["serialNumber"]) == tsa.leaf.serial_number
    attributes = signer["signedAttrs"]
    tsa.leaf.public_key().verify(  # type: ignore[union-attr, call-arg]
        bytes(signer["signature"]),
        b"\x31" + encoder.encode(attributes)[1:],
        padding.PKCS1v15(),  # type: ignore[arg-type]
        hashes.SHA256(),  # type: ignore[arg-type]
    )
    found = _attributes(signer)
    content = bytes(signed["encapContentInfo"]["eContent"])
    assert set(found) == {
        str(rfc5652.id_contentType),
        str(rfc5652.id_messageDigest),
        str(rfc5035.id_aa_signingCertificateV2),
    }
    assert found[str(rfc5652.id_messageDigest)] == der.octets(hashlib.sha256(content).digest())


def test_the_token_names_its_signers_certificate(tsa: Tsa) -> None:
    (signer,) = _signed_data(tsa.ask(_query()))["signerInfos"]
    value = _attributes(signer)[str(rfc5035.id_aa_signingCertificateV2)]
    (named,) = _decode(value, rfc5035.SigningCertificateV2())["certs"]
    # Encoded again, the default hash algorithm must still be left out.
    assert der.sequence(der.sequence(encoder.encode(named))) == value
    leaf = tsa.leaf.public_bytes(Encoding.DER)
    assert bytes(named["certHash"]) == hashlib.sha256(leaf).digest()
    assert int(named["issuerSerial"]["serialNumber"]) == tsa.leaf.serial_number


def test_certificates_are_sent_only_when_wanted(tsa: Tsa) -> None:
    wanted = _signed_data(tsa.ask(_query(rest=_WANT_CERTIFICATES)))["certificates"]
    assert {encoder.encode(choice["certificate"]) for choice in wanted} == {
        certificate.public_bytes(Encoding.DER) for certificate in (tsa.leaf, tsa.issuer)
    }
    assert not _signed_data(tsa.ask(_query()))["certificates"].isValue
    said_false = _query(rest=der.tlv(der.BOOLEAN, b"\x00"))
    assert not _signed_data(tsa.ask(said_false))["certificates"].isValue


@_once
@given(nonce=st.integers(-(2**64), 2**512))
def test_any_nonce_comes_back(tsa: Tsa, nonce: int) -> None:
    assert int(_info(tsa.ask(_query(rest=der.integer(nonce))))["nonce"]) == nonce


def test_without_a_nonce_there_is_none(tsa: Tsa) -> None:
    assert not _info(tsa.ask(_query()))["nonce"].isValue


@_once
@given(
    now=st.datetimes(
        min_value=datetime(1971, 1, 1), max_value=datetime(2999, 1, 1), timezones=st.timezones()
    )
)
def test_the_time_is_the_whole_second_in_utc(tsa: Tsa, now: datetime) -> None:
    said = datetime.strptime(str(_info(tsa.ask(_query(), now=now))["genTime"]), "%Y%m%d%H%M%SZ")
    assert timedelta(0) <= now.astimezone(UTC) - said.replace(tzinfo=UTC) < timedelta(seconds=1)


@pytest.mark.parametrize(
    "query",
    [
        _query(parameters=b""),
        _query(rest=der.oid(TSA_POLICY_OID)),
        _query(imprint=bytes(32)),
        _query(rest=der.oid(TSA_POLICY_OID) + der.integer(1) + _WANT_CERTIFICATES),
    ],
    ids=["no parameters", "our policy", "zeros as imprint", "everything"],
)
def test_every_form_of_a_good_query_is_granted(tsa: Tsa, query: bytes) -> None:
    assert bytes(_info(tsa.ask(query))["messageImprint"]["hashedMessage"]) in query


@pytest.mark.parametrize(
    ("query", "failure"),
    [
        (_query(algorithm=_SHA1, imprint=bytes(20)), "badAlg"),
        (_query(version=2), "badRequest"),
        (_query(rest=der.oid("1.2.3.4")), "unacceptedPolicy"),
        (_query(rest=der.context(0, _EXTENSION)), "unacceptedExtension"),
        (_query(imprint=bytes(31)), "badDataFormat"),
        (_query(imprint=b""), "badDataFormat"),
        (_query(parameters=b"\x05\x01\x00"), "badDataFormat"),
        (_query(parameters=b"\x04\x00"), "badDataFormat"),
        (_query() + b"\x00", "badDataFormat"),
        (_query()[:-1], "badDataFormat"),
        (_query(rest=_WANT_CERTIFICATES + der.integer(1)), "badDataFormat"),
        (_query(rest=b"\x02\x02\x00\x01"), "badDataFormat"),
        (_query(rest=der.tlv(der.BOOLEAN, b"\x01")), "badDataFormat"),
        (_query(rest=der.integer(1 << 8 * MAX_QUERY_BYTES)), "badDataFormat"),
        (b"", "badDataFormat"),
        (b"{}", "badDataFormat"),
    ],
    ids=[
        "SHA-1",
        "another version",
        "another policy",
        "an unknown critical extension",
        "a short imprint",
        "no imprint",
        "a NULL with content",
        "other parameters",
        "trailing data",
        "cut short",
        "fields out of order",
        "a padded nonce",
        "an odd BOOLEAN",
        "too long",
        "nothing",
        "JSON",
    ],
)
def test_a_bad_query_is_rejected_with_its_reason(tsa: Tsa, query: bytes, failure: str) -> None:
    assert _failure(tsa.ask(query)) == failure


@_once
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_by_a_rejection(tsa: Tsa, junk: bytes) -> None:
    assert _failure(tsa.ask(junk)) in {"badDataFormat", "badRequest", "badAlg"}


@_once
@given(st.integers(0, len(_query()) - 1), st.integers(1, 255))
def test_a_query_changed_in_any_byte_still_gets_a_valid_answer(
    tsa: Tsa, position: int, change: int
) -> None:
    changed = bytearray(_query())
    changed[position] ^= change
    response = _decode(tsa.ask(bytes(changed)), rfc3161.TimeStampResp())
    assert int(response["status"]["status"]) in {0, 2}
