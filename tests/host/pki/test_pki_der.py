from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyasn1.codec.der import decoder, encoder
from pyasn1.type import univ

from handfast.pki import der


@given(st.integers(-(2**300), 2**300))
@example(-128)
@example(127)
@example(128)
@example(-129)
def test_integers_agree_with_another_implementation(value: int) -> None:
    encoded = der.integer(value)
    assert decoder.decode(encoded, univ.Integer()) == (value, b"")
    assert der.Reader(encoded).integer() == value
    # pyasn1 itself writes -128 in two octets: X.690 8.3.2 wants the shortest form.
    assert len(encoded) == 2 + (value + (value < 0)).bit_length() // 8 + 1


@given(st.binary(max_size=70_000))
def test_octet_strings_of_any_length_agree_with_another_implementation(content: bytes) -> None:
    assert der.octets(content) == encoder.encode(univ.OctetString(content))


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), max_size=8))
def test_object_identifiers_agree_with_another_implementation(
    first: int, second: int, rest: list[int]
) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    assert der.oid(dotted) == encoder.encode(univ.ObjectIdentifier(dotted))


@given(st.lists(st.binary(max_size=20).map(der.octets), max_size=6))
def test_sets_come_out_in_one_order(elements: list[bytes]) -> None:
    assert der.set_of(elements) == der.set_of(reversed(elements))


@pytest.mark.parametrize("bit", [0, 2, 5, 7, 8, 15, 16, 25])
def test_a_named_bit_is_set_alone_and_without_trailing_zeros(bit: int) -> None:
    decoded, _ = decoder.decode(der.named_bit(bit))
    assert list(decoded) == [0] * bit + [1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x04\x02a",
        b"\x04\x80ab\x00\x00",
        b"\x04\x81\x01a",
        b"\x04\x82\x00\x80" + bytes(128),
        b"\x04\x83\x01\x00\x00" + bytes(65536),
        b"\x04\x82\x01",
        b"\x05\x00",
    ],
    ids=[
        "nothing",
        "no length",
        "cut short",
        "indefinite length",
        "long form for a short length",
        "zero before a length",
        "longer than anything here",
        "cut in the length",
        "another tag",
    ],
)
def test_what_is_not_der_is_refused(data: bytes) -> None:
    with pytest.raises(der.DerError):
        der.Reader(data).content(der.OCTET_STRING)


@pytest.mark.parametrize("data", [b"\x02\x00", b"\x02\x02\x00\x01", b"\x02\x02\xff\xff"])
def test_integers_must_be_in_their_shortest_form(data: bytes) -> None:
    with pytest.raises(der.DerError, match="INTEGER"):
        der.Reader(data).integer()


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff\xff"])
def test_booleans_are_one_of_two_bytes(content: bytes) -> None:
    with pytest.raises(der.DerError, match="BOOLEAN"):
        der.Reader(der.tlv(der.BOOLEAN, content)).boolean()


@given(st.binary(max_size=60))
def test_reading_any_bytes_ends_in_an_answer_or_a_der_error(data: bytes) -> None:
    reader = der.Reader(data)
    read = b""
    try:
        while (tag := reader.peek()) is not None:
            read += reader.element(tag)
    except der.DerError:
        assert data.startswith(read)
    else:
        assert read == data
