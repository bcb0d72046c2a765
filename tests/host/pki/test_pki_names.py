from __future__ import annotations

import ipaddress
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from pki_kit import new_key

from handfast.errors import UsageError
from handfast.pki.names import (
    device_subject,
    device_uri,
    server_name,
    validate_device_id,
    validate_hardware_id,
    validate_trust_domain,
)
from handfast.wire import DEVICE_ID_PATTERN


@given(st.from_regex(DEVICE_ID_PATTERN, fullmatch=True))
def test_every_device_id_of_the_pattern_is_accepted_and_named_in_the_uri(device_id: str) -> None:
    assert validate_device_id(device_id) == device_id
    assert device_uri("example.test", device_id) == f"spiffe://example.test/device/{device_id}"


@given(st.text())
def test_nothing_outside_the_pattern_is_a_device_id(text: str) -> None:
    if re.fullmatch(DEVICE_ID_PATTERN, text):
        return
    with pytest.raises(UsageError, match="device_id"):
        validate_device_id(text)


@pytest.mark.parametrize("text", ["", "A", "-a", "a/b", "a b", "a\n", "é", "a" * 64, "a%2f"])
def test_odd_device_ids_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        device_uri("example.test", text)


@pytest.mark.parametrize("text", ["", "Example.test", "a/b", "a:1", "a\n", "x" * 256, "..", "a b"])
def test_odd_trust_domains_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        validate_trust_domain(text)


@pytest.mark.parametrize("text", ["", " ", "a" * 65, "a\nb", "Ω", "a_b", "a@b", "a*b", "a&b"])
def test_odd_hardware_ids_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        validate_hardware_id(text)


def test_every_character_that_a_hardware_id_may_have_can_be_read_back() -> None:
    accepted = 0
    for character in map(chr, range(128)):
        try:
            subject = device_subject("pump-7", f"A{character}")
        except UsageError:
            continue
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        # cryptography writes a PrintableString that is none, and then cannot read it.
        assert builder.sign(new_key(), hashes.SHA256()).subject == subject, character
        accepted += 1
    assert accepted > 62


def test_subject_has_the_hardware_id_as_serial_number() -> None:
    assert device_subject("pump-7", "E6:61:64").rfc4514_string() == "2.5.4.5=E6:61:64,CN=pump-7"
    assert device_subject("pump-7", None).rfc4514_string() == "CN=pump-7"


@given(st.ip_addresses())
def test_addresses_stand_in_the_san_as_addresses(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert server_name(str(address)) == x509.IPAddress(address)


@pytest.mark.parametrize("name", ["localhost", "gw.example.com", "A-b.example", "xn--bcher-kva.de"])
def test_host_names_stand_in_the_san_in_lower_case(name: str) -> None:
    assert server_name(name) == x509.DNSName(name.lower())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a_b",
        "*.a",
        "a b",
        "1.2.3",
        "300.1.1.1",
        "bü.de",
        "fe80::1%eth0",
        "::1%",
    ],
)
def test_what_is_neither_name_nor_address_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="neither"):
        server_name(name)
