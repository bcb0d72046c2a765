"""Certificates as `cryptography` makes them, RSA signatures, and the choice of TLS anchors."""

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as made
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from device_pki import (
    NOW,
    SERVER_AUTH,
    TIME_STAMPING,
    Plan,
    encoded,
    root_plan,
    rsa_key,
    server_plan,
    tsa_plan,
)
from hypothesis import given
from hypothesis import strategies as st
from mtls import der, x509
from mtls import pkcs7 as device_pkcs7
from mtls.errors import DecodeError, MTLSError, UnsupportedAlgorithm, Untrusted

UNIX_NOW = int(NOW.timestamp())
ROOT, SERVER, TSA = root_plan().make(), server_plan().make(), tsa_plan().make()
ROOT_DER, SERVER_DER = encoded(ROOT), encoded(SERVER)

MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=0)
)
PURPOSES = [ExtendedKeyUsageOID.CLIENT_AUTH, SERVER_AUTH, TIME_STAMPING]
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@given(
    subject=st.text(min_size=1, max_size=40).filter(lambda s: s.isprintable()),
    start=MOMENTS,
    length=st.integers(0, 365 * 24 * 3600),
    ca=st.booleans(),
    path_length=st.none() | st.integers(0, 5),
    purposes=st.lists(st.sampled_from(PURPOSES), unique=True),
)
def test_fields_are_what_was_certified(subject, start, length, ca, path_length, purposes):
    certificate = Plan(
        subject,
        EC_KEY,
        "issuer",
        EC_KEY,
        ca=ca,
        path_length=path_length if ca else None,
        eku=purposes,
        not_before=start,
        not_after=start + timedelta(seconds=length),
    ).make()
    mine = x509.Certificate(encoded(certificate))
    assert mine.serial == certificate.serial_number
    assert mine.subject == certificate.subject.public_bytes()
    assert mine.issuer == certificate.issuer.public_bytes()
    assert mine.not_before == int(start.timestamp())
    assert mine.not_after == int(start.timestamp()) + length
    assert (mine.is_ca, mine.path_length) == (ca, path_length if ca else None)
    assert mine.eku == tuple(one.dotted_string for one in purposes)
    assert mine.may(x509.DIGITAL_SIGNATURE)
    assert mine.may(x509.KEY_CERT_SIGN) == ca
    assert mine.spki == EC_KEY.public_key().public_bytes(
        Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert mine.extension("2.5.29.19")[0] is True
    assert mine.extension("2.5.29.99") is None
    assert mine.valid_at(mine.not_before)
    assert mine.valid_at(mine.not_after)
    assert not mine.valid_at(mine.not_before - 1)
    assert not mine.valid_at(mine.not_after + 1)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_signature_of_every_allowed_size_is_verified(bits):
    key = rsa_key(f"sized-{bits}", bits)
    mine = x509.Certificate(encoded(Plan("root", key, "root", key, ca=True).make()))
    assert mine.signed_by(mine)


def test_altered_certificate_is_not_signed():
    server, root = x509.Certificate(SERVER_DER), x509.Certificate(ROOT_DER)
    assert server.signed_by(root)
    assert not root.signed_by(server)
    at = SERVER_DER.index(server.subject) + len(server.subject) - 1
    for position in (at, len(SERVER_DER) - 1):
        altered = bytearray(SERVER_DER)
        altered[position] ^= 1
        assert not x509.Certificate(altered).signed_by(root)


def test_issuer_of_the_right_key_and_another_name_is_none():
    other = x509.Certificate(encoded(replace(root_plan(), subject="other").make()))
    assert not x509.Certificate(SERVER_DER).signed_by(other)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(replace(server_plan(), issuer_key=EC_KEY), id="ecdsa"),
        pytest.param(replace(server_plan(), digest=hashes.SHA384()), id="sha-384"),
    ],
)
def test_other_signature_algorithm_is_unsupported(plan):
    with pytest.raises(UnsupportedAlgorithm):
        x509.Certificate(encoded(plan.make())).signed_by(x509.Certificate(ROOT_DER))


# ---- RSASSA-PKCS1-v1_5, strictly ----

KEY = rsa_key("root")
SPKI = KEY.public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
NUMBERS = KEY.private_numbers()
MESSAGE = b"message"
DIGEST = hashlib.sha256(MESSAGE).digest()
INFO = bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST


def raw_signature(encoded_message: bytes) -> bytes:
    n = NUMBERS.public_numbers.n
    value = pow(int.from_bytes(encoded_message, "big"), NUMBERS.d, n)
    return value.to_bytes(256, "big")


def padded(info: bytes, head: bytes = b"\x00\x01", fill: bytes = b"\xff") -> bytes:
    return head + fill * (256 - len(head) - 1 - len(info)) + b"\x00" + info


def test_right_encoding_is_verified():
    assert raw_signature(padded(INFO)) == KEY.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    assert x509.rsa_verify(SPKI, MESSAGE, raw_signature(padded(INFO)))
    assert not x509.rsa_verify(SPKI, MESSAGE + b".", raw_signature(padded(INFO)))


SHORT_PADDING = b"\x00\x01" + b"\xff" * 8 + b"\x00" + INFO
NO_NULL = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + DIGEST
SHA1_INFO = (
    bytes.fromhex("3021300906052b0e03021a05000414")
    + hashlib.sha1(MESSAGE, usedforsecurity=False).digest()
)


@pytest.mark.parametrize(
    "encoded_message",
    [
        pytest.param(SHORT_PADDING + bytes(256 - len(SHORT_PADDING)), id="garbage-after"),
        pytest.param(padded(INFO + b"\x00"), id="octet-after"),
        pytest.param(padded(INFO, head=b"\x00\x02"), id="block-type-2"),
        pytest.param(padded(INFO, head=b"\x00\x00"), id="block-type-0"),
        pytest.param(padded(INFO, fill=b"\xfe"), id="other-padding"),
        pytest.param(padded(NO_NULL), id="no-null"),
        pytest.param(padded(DIGEST), id="no-digest-info"),
        pytest.param(padded(SHA1_INFO), id="sha-1"),
    ],
)
def test_other_encoding_is_refused(encoded_message):
    assert len(encoded_message) == 256
    assert not x509.rsa_verify(SPKI, MESSAGE, raw_signature(encoded_message))


def test_signature_of_another_length_or_range_is_refused():
    right = raw_signature(padded(INFO))
    n = NUMBERS.public_numbers.n
    more = int.from_bytes(right, "big") + n
    assert not x509.rsa_verify(SPKI, MESSAGE, right[:-1])
    assert not x509.rsa_verify(SPKI, MESSAGE, b"\x00" + right)
    assert not x509.rsa_verify(SPKI, MESSAGE, b"")
    assert not x509.rsa_verify(SPKI, MESSAGE, more.to_bytes(257, "big"))
    assert not x509.rsa_verify(SPKI, MESSAGE, bytes(256))


def spki_of(n: int, e: int) -> bytes:
    return der.sequence(
        der.sequence(der.oid("1.2.840.113549.1.1.1"), b"\x05\x00"),
        der.bitstring(der.sequence(der.integer(n), der.integer(e))),
    )


@pytest.mark.parametrize(
    ("n", "e"),
    [
        pytest.param(NUMBERS.public_numbers.n, 3, id="exponent-3"),
        pytest.param(NUMBERS.public_numbers.n, 65535, id="exponent-under-65537"),
        pytest.param(NUMBERS.public_numbers.n, 65538, id="exponent-even"),
        pytest.param(NUMBERS.public_numbers.n, 2**32 + 1, id="exponent-huge"),
        pytest.param(2**2046 + 1, 65537, id="modulus-2047-bits"),
        pytest.param(2**4096 + 1, 65537, id="modulus-4097-bits"),
        pytest.param(2**2048 - 2, 65537, id="modulus-even"),
    ],
)
def test_weak_or_absurd_key_is_unsupported(n, e):
    with pytest.raises(UnsupportedAlgorithm):
        x509.rsa_verify(spki_of(n, e), MESSAGE, bytes(256))


def test_key_that_is_not_rsa_is_unsupported():
    spki = EC_KEY.public_key().public_bytes(
        Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(UnsupportedAlgorithm):
        x509.rsa_verify(spki, MESSAGE, bytes(256))


# ---- Anchors ----


def test_anchor_vouched_for_by_a_root_is_taken():
    other = replace(root_plan(), subject="other", key=rsa_key("server")).make()
    roots = [encoded(other), ROOT_DER]
    assert x509.check_tls_anchor(SERVER_DER, roots, UNIX_NOW).der == SERVER_DER


def test_renewed_root_is_found_behind_its_former_self():
    former = replace(root_plan(), not_after=NOW - timedelta(seconds=1)).make()
    roots = [encoded(former), ROOT_DER]
    assert x509.check_tls_anchor(SERVER_DER, roots, UNIX_NOW).der == SERVER_DER


UNKNOWN = made.UnrecognizedExtension(made.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
ANCHOR_FLAWS = [
    pytest.param({"eku": [ExtendedKeyUsageOID.CLIENT_AUTH]}, id="the-device-ca"),
    pytest.param({"eku": []}, id="no-purpose"),
    pytest.param({"ca": False, "path_length": None}, id="not-a-ca"),
    pytest.param({"key_cert_sign": False}, id="key-usage"),
    pytest.param({"extra": [(UNKNOWN, True)]}, id="critical-extension"),
    pytest.param({"not_after": NOW - timedelta(seconds=1)}, id="expired"),
    pytest.param({"not_before": NOW + timedelta(seconds=1)}, id="not-yet-valid"),
    pytest.param({"issuer_key": rsa_key("server")}, id="signed-by-itself"),
    pytest.param({"issuer": "other"}, id="of-another-issuer"),
]


@pytest.mark.parametrize("changes", ANCHOR_FLAWS)
def test_unfit_anchor_is_refused(changes):
    candidate = encoded(replace(server_plan(), **changes).make())
    with pytest.raises(Untrusted):
        x509.check_tls_anchor(candidate, [ROOT_DER], UNIX_NOW)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"ca": False, "path_length": None}, id="not-a-ca"),
        pytest.param({"path_length": 0}, id="no-ca-below"),
        pytest.param({"key_cert_sign": False}, id="key-usage"),
        pytest.param({"not_after": NOW - timedelta(seconds=1)}, id="expired"),
    ],
)
def test_unfit_root_vouches_for_nothing(changes):
    root = encoded(replace(root_plan(), **changes).make())
    with pytest.raises(Untrusted):
        x509.check_tls_anchor(SERVER_DER, [root], UNIX_NOW)


def test_anchor_without_a_root_is_refused():
    with pytest.raises(Untrusted):
        x509.check_tls_anchor(SERVER_DER, [], UNIX_NOW)


# ---- Times ----


@pytest.mark.parametrize(
    ("tag", "text", "unix"),
    [
        (0x17, b"700101000000Z", 0),
        (0x17, b"491231235959Z", 2524607999),
        (0x17, b"500101000000Z", -631152000),
        (0x18, b"20500101000000Z", 2524608000),
        (0x18, b"20240229120000Z", 1709208000),
    ],
)
def test_time_is_read(tag, text, unix):
    assert x509.parse_time(tag, text) == unix


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (0x17, b"7001010000Z"),
        (0x17, b"700101000000+0000"),
        (0x17, b"700101000000"),
        (0x17, b"701301000000Z"),
        (0x17, b"700001000000Z"),
        (0x17, b"700100000000Z"),
        (0x17, b"700132000000Z"),
        (0x17, b"230229000000Z"),
        (0x17, b"700101240000Z"),
        (0x17, b"700101006000Z"),
        (0x17, b"700101000060Z"),
        (0x17, b"7001010000 1Z"),
        (0x17, b"-00101000000Z"),
        (0x17, b""),
        (0x18, b"20240229120000.5Z"),
        (0x18, b"202402291200Z"),
        (0x18, b"20240229120000"),
        (0x13, b"20240229120000Z"),
    ],
)
def test_bad_time_is_refused(tag, text):
    with pytest.raises(DecodeError):
        x509.parse_time(tag, text)


# ---- Bad bytes ----


def touch_everything(encoded_certificate: bytes) -> None:
    certificate = x509.Certificate(encoded_certificate)
    certificate.may(x509.KEY_CERT_SIGN)
    certificate.unhandled()
    certificate.signed_by(x509.Certificate(ROOT_DER))
    x509.check_tls_anchor(encoded_certificate, [ROOT_DER], UNIX_NOW)


def test_certificate_cut_anywhere_is_refused():
    for size in range(len(SERVER_DER)):
        with pytest.raises(MTLSError):
            x509.Certificate(SERVER_DER[:size])
    with pytest.raises(DecodeError):
        x509.Certificate(SERVER_DER + b"\0")


MUTATIONS = st.lists(
    st.tuples(st.integers(0, len(SERVER_DER) - 1), st.binary(max_size=6), st.integers(0, 6)),
    min_size=1,
    max_size=6,
)


@given(MUTATIONS)
def test_mutated_certificate_raises_nothing_but_our_errors(cuts):
    mutated = bytearray(SERVER_DER)
    for at, piece, gone in cuts:
        mutated[at : at + gone] = piece
    with suppress(MTLSError):
        touch_everything(bytes(mutated))
        assert bytes(mutated) == SERVER_DER


def certificate_with(extensions: bytes, version: int = 2) -> bytes:
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.11"), b"\x05\x00")
    moment = der.tlv(der.UTC_TIME, b"260101000000Z")
    body = der.sequence(
        der.tlv(0xA0, der.integer(version)),
        der.integer(1),
        algorithm,
        der.sequence(),
        der.sequence(moment, moment),
        der.sequence(),
        SPKI,
        der.tlv(0xA3, der.sequence(extensions)),
    )
    return der.sequence(body, algorithm, der.bitstring(bytes(256)))


def extension(arc: int, value: bytes = b"\x05\x00") -> bytes:
    return der.sequence(der.oid(f"1.2.3.{arc}"), der.octets(value))


def test_extensions_are_bounded_and_each_comes_once():
    x509.Certificate(certificate_with(b"".join(map(extension, range(32)))))
    with pytest.raises(DecodeError):
        x509.Certificate(certificate_with(b"".join(map(extension, range(33)))))
    with pytest.raises(DecodeError):
        x509.Certificate(certificate_with(extension(1) + extension(1)))


def test_other_version_is_refused():
    with pytest.raises(DecodeError):
        x509.Certificate(certificate_with(extension(1), version=1))


# ---- PKCS#7 ----


@given(st.permutations([ROOT, SERVER, TSA]), st.integers(1, 3))
def test_certificates_come_out_of_pkcs7(certificates, count):
    chosen = certificates[:count]
    message = pkcs7.serialize_certificates(chosen, Encoding.DER)
    found = device_pkcs7.certificates(message)
    assert sorted(found) == sorted(encoded(one) for one in chosen)


def test_certificates_come_out_of_pkcs7_in_its_order():
    message = pkcs7.serialize_certificates([ROOT, SERVER], Encoding.DER)
    assert [
        encoded(one) for one in pkcs7.load_der_pkcs7_certificates(message)
    ] == device_pkcs7.certificates(message)


def test_too_many_certificates_are_refused():
    message = pkcs7.serialize_certificates([ROOT, SERVER, TSA], Encoding.DER)
    assert len(device_pkcs7.certificates(message, limit=3)) == 3
    with pytest.raises(DecodeError):
        device_pkcs7.certificates(message, limit=2)


PKCS7 = pkcs7.serialize_certificates([SERVER], Encoding.DER)


def test_pkcs7_cut_anywhere_is_refused():
    for size in range(len(PKCS7)):
        with pytest.raises(DecodeError):
            device_pkcs7.certificates(PKCS7[:size])
    with pytest.raises(DecodeError):
        device_pkcs7.certificates(PKCS7 + b"\0")


@given(st.integers(0, len(PKCS7) - 1), st.binary(max_size=6), st.integers(0, 6))
def test_mutated_pkcs7_raises_nothing_but_our_errors(at, piece, gone):
    with suppress(MTLSError):
        device_pkcs7.certificates(PKCS7[:at] + piece + PKCS7[at + gone :])


def test_noise_is_refused():
    for size in range(0, 200, 7):
        with pytest.raises(MTLSError):
            device_pkcs7.certificates(os.urandom(size))
        with pytest.raises(MTLSError):
            x509.Certificate(os.urandom(size))


def test_content_that_is_not_signed_data_is_refused():
    enveloped = PKCS7.replace(der.oid("1.2.840.113549.1.7.2"), der.oid("1.2.840.113549.1.7.3"), 1)
    with pytest.raises(DecodeError, match="not CMS signed data"):
        device_pkcs7.certificates(enveloped)
