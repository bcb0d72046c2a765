"""DER: what is written reads back, and what is not DER is refused."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from mtls import der
from mtls.errors import DecodeError
from pyasn1.codec.der import decoder, encoder
from pyasn1.type import univ

ARCS = st.lists(st.integers(0, 2**40), min_size=0, max_size=4)


@given(st.integers(0, 2**4096))
def test_integer_is_what_another_encoder_makes(value):
    encoded = der.integer(value)
    assert encoded == encoder.encode(univ.Integer(value))
    assert der.Reader(encoded).integer() == value


@given(st.integers(-(2**520), -1) | st.integers(-300, -1))
def test_negative_integer_is_read(value):
    size = (value + 1).bit_length() // 8 + 1  # pyasn1 writes -128 in two octets
    encoded = der.tlv(der.INTEGER, value.to_bytes(size, "big", signed=True))
    assert der.Reader(encoded).integer() == value


def test_negative_integer_is_not_written():
    with pytest.raises(ValueError, match="negative"):
        der.integer(-1)


@given(st.integers(0, 2), st.integers(0, 39), ARCS)
def test_oid_is_what_another_encoder_makes(first, second, rest):
    dotted = ".".join(map(str, [first, second, *rest]))
    encoded = der.oid(dotted)
    assert encoded == encoder.encode(univ.ObjectIdentifier(dotted))
    assert der.dotted(der.Reader(encoded).oid()) == dotted


@given(st.binary(max_size=1000))
def test_octets_read_back(content):
    encoded = der.octets(content)
    assert bytes(decoder.decode(encoded)[0]) == content
    reader = der.Reader(encoded)
    assert reader.content(der.OCTET_STRING) == content
    reader.finish()


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65535])
def test_length_is_written_minimally_at_its_borders(size):
    encoded = der.octets(bytes(size))
    assert encoded == encoder.encode(univ.OctetString(bytes(size)))
    assert der.Reader(encoded).element() == encoded


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x04", id="no-length"),
        pytest.param(b"\x04\x01", id="no-content"),
        pytest.param(b"\x04\x80\x00\x00", id="indefinite"),
        pytest.param(b"\x04\x81", id="length-cut"),
        pytest.param(b"\x04\x82\x01", id="longer-length-cut"),
        pytest.param(b"\x04\x81\x01\x00", id="length-not-minimal"),
        pytest.param(b"\x04\x82\x00\x80" + bytes(128), id="longer-length-not-minimal"),
        pytest.param(b"\x04\x83\x01\x00\x00" + bytes(65536), id="over-64-k"),
        pytest.param(b"\x04\x84\xff\xff\xff\xff", id="oversized"),
        pytest.param(b"\x04\xff", id="reserved-length"),
        pytest.param(b"\x1f\x01\x00", id="multi-octet-tag"),
    ],
)
def test_broken_element_is_refused(encoded):
    for read in (der.Reader.next, der.Reader.element):
        with pytest.raises(DecodeError):
            read(der.Reader(encoded))


@pytest.mark.parametrize(
    ("encoded", "read"),
    [
        (b"\x02\x00", der.Reader.integer),
        (b"\x02\x02\x00\x7f", der.Reader.integer),
        (b"\x02\x02\xff\x80", der.Reader.integer),
        (der.tlv(2, b"\x01" + bytes(520)), der.Reader.integer),
        (b"\x01\x01\x01", der.Reader.boolean),
        (b"\x01\x02\x00\x00", der.Reader.boolean),
        (b"\x03\x00", der.Reader.bits),
        (b"\x03\x02\x01\x00", der.Reader.bits),
        (b"\x06\x00", der.Reader.oid),
        (b"\x04\x00", der.Reader.oid),
    ],
)
def test_bad_value_is_refused(encoded, read):
    with pytest.raises(DecodeError):
        read(der.Reader(encoded))


@pytest.mark.parametrize("content", [b"", b"\x55\x80", b"\x55\x80\x01", b"\x01" * 33])
def test_bad_oid_content_is_refused(content):
    with pytest.raises(DecodeError):
        der.dotted(content)


def test_element_of_another_tag_is_refused():
    with pytest.raises(DecodeError, match="0x04, expected 0x02"):
        der.Reader(der.octets(b"\x01")).integer()


def test_element_over_64_k_is_not_written():
    with pytest.raises(ValueError, match="too long"):
        der.octets(bytes(65536))


def test_reader_stays_inside_its_element():
    outer = der.Reader(der.sequence(der.octets(b"in")) + der.octets(b"out"))
    inner = outer.enter(der.SEQUENCE)
    assert inner.content(der.OCTET_STRING) == b"in"
    assert not inner.more()
    assert inner.peek() == -1
    with pytest.raises(DecodeError):
        inner.next()
    with pytest.raises(DecodeError):
        outer.finish()
    assert outer.content(der.OCTET_STRING) == b"out"


def test_inner_length_may_not_reach_beyond_the_outer():
    with pytest.raises(DecodeError):
        der.Reader(b"\x30\x02\x04\x05hello").enter(der.SEQUENCE).next()


def walk(reader):
    while reader.more():
        tag, content = reader.next()
        if tag & 0x20:
            walk(content)


@given(st.binary(max_size=64))
def test_noise_raises_nothing_but_decode_error(noise):
    for read in (walk, der.Reader.integer, der.Reader.boolean, der.Reader.bits, der.Reader.oid):
        try:
            read(der.Reader(noise))
        except DecodeError:
            continue


def test_oids_are_spelled_as_others_spell_them():
    assert der.oid("1.2.840.113549.1.9.16.1.4").hex() == "060b2a864886f70d0109100104"
    assert der.dotted(b"\x55\x1d\x25") == x509.ExtendedKeyUsage.oid.dotted_string
