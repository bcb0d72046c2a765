"""One element too many, anywhere in a structure that is otherwise right, is refused."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from device_pki import (
    IMPRINT,
    NONCE,
    SHA256,
    attribute,
    encoded,
    name_of,
    reply_by,
    rsa_key,
    server_plan,
    tsa_plan,
)
from hypothesis import given
from hypothesis import strategies as st
from mtls import der, keys, pkcs7, tsp, x509
from mtls.drbg import HmacDrbg
from mtls.errors import DecodeError, MTLSError, UnsupportedAlgorithm, Untrusted

EXTRA = b"\x05\x00"
SERVER, TSA = server_plan().make(), tsa_plan().make()
SERVER_DER = encoded(SERVER)
REPLY = reply_by(TSA, SERVER)


def grown(whole: bytes, opaque: tuple[bytes, ...] = ()) -> Iterator[bytes]:
    """whole with one NULL more at the end of each constructed element in turn, lengths mended.

    Elements that start with one of ``opaque`` are left alone.
    """
    tag, size = whole[0], len(whole)
    if not tag & 0x20 or whole.startswith(opaque or (b"\xff",)):
        return
    reader = der.Reader(whole)
    content = reader.enter(tag)
    assert reader.pos == size
    children = []
    while content.more():
        children.append(content.element())
    yield der.tlv(tag, *children, EXTRA)
    for at, child in enumerate(children):
        for more in grown(child, opaque):
            yield der.tlv(tag, *children[:at], more, *children[at + 1 :])


NAMES = tuple(name_of(one).public_bytes() for one in ("root", "server", "tsa"))


def test_certificate_with_an_element_more_is_refused():
    count = 0
    spki = x509.Certificate(SERVER_DER).spki
    for one in grown(SERVER_DER, (*NAMES, spki)):
        count += 1
        with pytest.raises((DecodeError, UnsupportedAlgorithm)):
            x509.Certificate(one)
    assert count > 10


def with_extension(oid: str, value: bytes) -> bytes:
    """The server CA's certificate with another value of an extension (its signature is wrong)."""
    right = x509.Certificate(SERVER_DER).extension(oid)[1]
    return rebuilt(SERVER_DER, der.octets(right), der.octets(value))


def rebuilt(whole: bytes, old: bytes, new: bytes) -> bytes:
    if whole == old:
        return new
    if not whole[0] & 0x20:
        return whole
    content = der.Reader(whole).enter(whole[0])
    children = []
    while content.more():
        children.append(rebuilt(content.element(), old, new))
    return der.tlv(whole[0], *children)


TRUE = der.tlv(der.BOOLEAN, b"\xff")


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        ("2.5.29.19", der.sequence(TRUE, der.integer(0), EXTRA)),
        ("2.5.29.19", der.sequence(TRUE, der.integer(0)) + EXTRA),
        ("2.5.29.19", der.sequence(der.integer(0))),
        ("2.5.29.19", der.sequence(TRUE, der.tlv(der.INTEGER, b"\xff"))),
        ("2.5.29.15", der.tlv(der.BIT_STRING, b"\x01\x06") + EXTRA),
        ("2.5.29.15", der.tlv(der.BIT_STRING, b"")),
        ("2.5.29.15", der.tlv(der.BIT_STRING, b"\x08\x06")),
        ("2.5.29.15", der.tlv(der.OCTET_STRING, b"\x01\x06")),
        ("2.5.29.37", der.sequence(der.oid("1.2.3"), EXTRA)),
        ("2.5.29.37", der.sequence(der.oid("1.2.3")) + EXTRA),
    ],
)
def test_extension_that_is_not_what_it_should_be_is_refused(oid, value):
    with pytest.raises(DecodeError):
        x509.Certificate(with_extension(oid, value))


def test_certificate_that_names_two_algorithms_is_refused():
    outer = der.only(SERVER_DER)
    tbs, _, signature = outer.element(), outer.element(), outer.element()
    with pytest.raises(DecodeError):
        x509.Certificate(der.sequence(tbs, der.sequence(der.oid("1.2.3"), EXTRA), signature))


SPKI = rsa_key("server").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_key_with_an_element_more_is_refused():
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.1"), EXTRA)
    outer = der.only(SPKI)
    outer.element()
    bits = outer.bits()
    body = der.only(bits)
    longer = der.sequence(body.element(), body.element(), EXTRA)
    assert der.sequence(algorithm, der.bitstring(bits)) == SPKI
    for wrong in (*grown(SPKI), der.sequence(algorithm, der.bitstring(longer))):
        with pytest.raises((DecodeError, UnsupportedAlgorithm)):
            x509.rsa_verify(wrong, b"message", bytes(256))


@pytest.mark.parametrize(
    "algorithm",
    [
        der.sequence(der.oid("1.2.840.113549.1.1.10"), EXTRA),
        der.sequence(der.oid("1.2.840.113549.1.1.1"), der.integer(1)),
        der.sequence(der.oid("1.2.840.113549.1.1.1"), EXTRA, EXTRA),
    ],
    ids=["pss-key", "parameters", "two-parameters"],
)
def test_key_of_another_algorithm_is_refused(algorithm):
    outer = der.only(SPKI)
    outer.element()
    with pytest.raises((DecodeError, UnsupportedAlgorithm)):
        x509.rsa_verify(der.sequence(algorithm, outer.element()), b"message", bytes(256))


def test_pkcs7_with_an_element_more_is_refused():
    right = der.sequence(
        der.oid("1.2.840.113549.1.7.2"),
        der.tlv(
            0xA0,
            der.sequence(
                der.integer(1),
                der.tlv(der.SET),
                der.sequence(der.oid("1.2.840.113549.1.7.1")),
                der.tlv(0xA0, SERVER_DER),
                der.tlv(der.SET),
            ),
        ),
    )
    assert pkcs7.certificates(right) == [SERVER_DER]
    # The two sets and the empty content are stepped over, whatever is in them.
    skipped = (b"\x31", der.sequence(der.oid("1.2.840.113549.1.7.1")))
    for wrong in grown(right, (*skipped, SERVER_DER)):
        with pytest.raises(DecodeError):
            pkcs7.certificates(wrong)


def test_private_key_with_an_element_more_is_refused():
    right = keys.SoftwareKey.generate(HmacDrbg(bytes(48))).to_der()
    for wrong in grown(right):
        with pytest.raises(DecodeError):
            keys.SoftwareKey.from_der(wrong)


# ---- Time-stamps: each wrong one here is signed as it is ----


def whole_verify(reply: bytes) -> int:
    return tsp.verify(reply, NONCE, IMPRINT, [SERVER_DER], 0)


def test_envelope_with_an_element_more_is_refused():
    reply = REPLY.make()
    # A NULL after the digest's OID is right, one after the status says why it was refused.
    status, skipped = der.sequence(der.integer(0)), der.tlv(der.SET, SHA256)
    signed = der.tlv(0xA0, REPLY.attributes(REPLY.info()))
    count = 0
    for wrong in grown(reply, (*REPLY.certificates, *NAMES, SHA256, status, skipped, signed)):
        count += 1
        with pytest.raises((DecodeError, UnsupportedAlgorithm)):
            whole_verify(wrong)
    assert count > 8


NAMED = der.tlv(0xA4, TSA.subject.public_bytes())
ISSUER = der.sequence(der.tlv(0xA4, TSA.issuer.public_bytes()))
SIGNING_TIME = "1.2.840.113549.1.9.5"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"after_nonce": EXTRA}, id="tst-info"),
        pytest.param({"imprint_algorithm": SHA256 + EXTRA}, id="imprint"),
        pytest.param({"before_nonce": der.sequence(der.integer(1), EXTRA)}, id="accuracy"),
        pytest.param({"after_nonce": der.tlv(0xA0, NAMED, EXTRA)}, id="name"),
        pytest.param({"ess_tail": EXTRA}, id="ess"),
        pytest.param(
            {"ess_tail": der.sequence(ISSUER, der.integer(TSA.serial_number), EXTRA)}, id="serial"
        ),
        pytest.param({"ess_tail": der.sequence(ISSUER, der.integer(1)) + EXTRA}, id="ess-end"),
        pytest.param(
            {"extra_attributes": [der.sequence(der.oid(SIGNING_TIME), der.tlv(der.SET), EXTRA)]},
            id="attribute",
        ),
    ],
)
def test_signed_part_with_an_element_more_is_refused(changes):
    with pytest.raises(DecodeError):
        whole_verify(REPLY.but(**changes).make())


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_attribute_of_two_values_is_refused(dropped):
    info = REPLY.info()
    inner = der.only(der.tlv(0x30, REPLY.attributes(info)))
    found = sorted(inner.element() for _ in range(3))
    for one in found:
        body = der.only(one)
        oid, values = body.element(), body.enter(der.SET)
        if oid == der.oid(ATTRIBUTES[dropped]):
            value = values.element()
            doubled = der.sequence(oid, der.tlv(der.SET, value, value))
            with pytest.raises(DecodeError):
                whole_verify(REPLY.but(drop_attribute=dropped, extra_attributes=[doubled]).make())
            return
    raise AssertionError("attribute not found")


ATTRIBUTES = ("1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.16.2.47")


def test_too_many_attributes_are_refused():
    many = [attribute(f"1.2.3.{n}", EXTRA) for n in range(13)]
    whole_verify(REPLY.but(extra_attributes=many).make())
    with pytest.raises(DecodeError):
        whole_verify(REPLY.but(extra_attributes=[*many, attribute("1.2.4", EXTRA)]).make())


def test_signer_of_an_unknown_version_is_refused():
    right = REPLY.make()
    signer = der.sequence(REPLY.signer_name, der.integer(REPLY.signer_serial))
    at = right.index(signer) - 1
    with pytest.raises(DecodeError, match="version"):
        whole_verify(right[:at] + b"\x02" + right[at + 1 :])


def test_reply_longer_than_any_token_is_not_even_read():
    with pytest.raises(MTLSError, match="too long"):
        whole_verify(REPLY.make() + bytes(16384))


def test_granted_without_a_token_says_so():
    with pytest.raises(DecodeError, match="no time-stamp"):
        whole_verify(der.sequence(der.sequence(der.integer(0))))


@given(st.integers(0, 7))
def test_token_of_another_anchor_is_untrusted(bit):
    wrong = bytearray(SERVER_DER)
    wrong[-1] ^= 1 << bit  # the anchor's own signature is not looked at: it is held, not sent
    assert whole_verify(REPLY.make()) == tsp.verify(REPLY.make(), NONCE, IMPRINT, [bytes(wrong)], 0)
    with pytest.raises(Untrusted):
        tsp.verify(REPLY.make(), NONCE, IMPRINT, [encoded(TSA)], 0)
