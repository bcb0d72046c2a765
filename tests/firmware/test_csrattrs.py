"""CSR attributes (RFC 7030 4.5): what a P-256 board can honour, and what it must not pretend to."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls import csrattrs, der
from mtls.errors import DecodeError, UnsupportedAlgorithm

from handfast.gateway import est as gateway_est

EC_KEY, P256, P384 = "1.2.840.10045.2.1", "1.2.840.10045.3.1.7", "1.3.132.0.34"
ECDSA_SHA256, ECDSA_SHA384 = "1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"
RSA_KEY, RSA_SHA256 = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11"
ED25519 = "1.3.101.112"
CHALLENGE_PASSWORD, EXTENSION_REQUEST = "1.2.840.113549.1.9.7", "1.2.840.113549.1.9.14"
# RFC 7030 section 4.5.2: challengePassword, EC keys on secp384r1, macAddress, ecdsa-with-SHA384.
RFC_7030 = (
    "MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="
)


def attributes(*items: object) -> bytes:
    """Return CsrAttrs: a string is an OID, a tuple an attribute with OIDs as values."""
    encoded = [
        der.oid(item)
        if isinstance(item, str)
        else der.sequence(der.oid(item[0]), der.tlv(der.SET, *map(der.oid, item[1:])))
        for item in items
    ]
    return der.sequence(*encoded)


@pytest.mark.parametrize(
    "items",
    [
        (),
        ((EC_KEY, P256),),
        ((EC_KEY, P384, P256), ECDSA_SHA384, ECDSA_SHA256),
        ((EC_KEY, P384), (EC_KEY, P256), RSA_KEY),
        (EC_KEY,),
        (CHALLENGE_PASSWORD, (EXTENSION_REQUEST, "1.3.6.1.1.1.1.22"), "1.2.3"),
        (P256, "2.16.840.1.101.3.4.2.1"),
    ],
    ids=["empty", "p256", "choice", "several", "any-curve", "others", "hash"],
)
def test_what_a_board_can_do_passes(items):
    csrattrs.check(attributes(*items))


@pytest.mark.parametrize(
    "items",
    [
        ((EC_KEY, P384),),
        (RSA_KEY,),
        ((RSA_KEY, "1.2.3"),),
        (ED25519,),
        ((EC_KEY, P256), ECDSA_SHA384),
        (RSA_SHA256,),
        (RSA_KEY, RSA_SHA256),
        (P384,),
        (P256, "2.16.840.1.101.3.4.2.2"),
    ],
)
def test_what_a_board_cannot_do_is_told(items):
    with pytest.raises(UnsupportedAlgorithm, match="the EST server wants another"):
        csrattrs.check(attributes(*items))


def test_the_example_of_the_rfc_wants_another_key():
    with pytest.raises(UnsupportedAlgorithm, match="kind of key"):
        csrattrs.check(base64.b64decode(RFC_7030))


def test_our_gateway_asks_for_what_boards_do():
    csrattrs.check(gateway_est._CSR_ATTRIBUTES)


def test_values_that_are_no_oids_are_stepped_over():
    number = der.sequence(der.oid("1.2.3"), der.tlv(der.SET, der.integer(4096)))
    csrattrs.check(der.sequence(number))


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x30\x80\x00\x00",
        attributes("1.2.3") + b"\x00",
        der.sequence(der.integer(1)),
        der.sequence(der.sequence(der.oid("1.2.3"))),
        der.sequence(der.sequence(der.oid("1.2.3"), der.tlv(der.SET), der.integer(1))),
        attributes(*["1.2.3"] * 33),
    ],
)
def test_anything_else_is_a_decode_error(encoded):
    with pytest.raises(DecodeError):
        csrattrs.check(encoded)


@given(st.binary(max_size=64))
def test_no_bytes_make_it_fail_otherwise(encoded):
    with suppress(DecodeError, UnsupportedAlgorithm):
        csrattrs.check(encoded)
