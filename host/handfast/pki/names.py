"""What devices, trust domains and servers may be called, and how a device's name is spelled."""

from __future__ import annotations

import ipaddress
import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from handfast.errors import UsageError
from handfast.wire import DEVICE_ID_PATTERN, SPIFFE_TEMPLATE

_DEVICE_ID = re.compile(DEVICE_ID_PATTERN)
# SPIFFE-ID §2.1: lower-case letters, digits, dot, dash, underscore; at most 255 bytes.
_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}")
# RFC 5280 ub-serial-number, and PrintableString (no underscore) without its quotes and slashes.
_HARDWARE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 :.+-]{0,63}")
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_DNS_LABEL}\.)*{_DNS_LABEL}", re.IGNORECASE)


def validate_device_id(device_id: str) -> str:
    """Return ``device_id`` if it is one.

    Raises:
        UsageError: it is not; the message says what is allowed.
    """
    if not _DEVICE_ID.fullmatch(device_id):
        raise UsageError(
            f"{device_id!r} is not a device_id: use 1 to 63 of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return device_id


def validate_trust_domain(trust_domain: str) -> str:
    """Return ``trust_domain`` if it can stand in a SPIFFE URI.

    Raises:
        UsageError: it cannot.
    """
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise UsageError(
            f"{trust_domain!r} is not a trust domain: use 1 to 255 of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or digit, for instance devices.example.com"
        )
    return trust_domain


def validate_hardware_id(hardware_id: str) -> str:
    """Return ``hardware_id`` if it can be a subject's serialNumber (IEEE 802.1AR §8.6).

    Raises:
        UsageError: it cannot.
    """
    if not _HARDWARE_ID.fullmatch(hardware_id):
        raise UsageError(
            f"{hardware_id!r} is not a hardware id: use 1 to 64 letters, digits, spaces and "
            "':.+-', beginning with a letter or digit"
        )
    return hardware_id


def device_uri(trust_domain: str, device_id: str) -> str:
    """Return the one URI that names a device in its certificates.

    Raises:
        UsageError: either part cannot stand in it.
    """
    return SPIFFE_TEMPLATE.format(
        trust_domain=validate_trust_domain(trust_domain), device_id=validate_device_id(device_id)
    )


def device_subject(device_id: str, hardware_id: str | None) -> x509.Name:
    """Return the subject of a device: its CN, and the hardware's own id as serialNumber.

    Raises:
        UsageError: either name is not one.
    """
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, validate_device_id(device_id))]
    if hardware_id is not None:
        serial = validate_hardware_id(hardware_id)
        attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, serial))
    return x509.Name(attributes)


def server_name(name: str) -> x509.DNSName | x509.IPAddress:
    """Return what a server's SAN says for ``name``, a DNS name or an IP address.

    Raises:
        UsageError: it is neither.
    """
    # A zone (fe80::1%eth0) means something on one machine only, and no certificate can hold it.
    if "%" not in name:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            pass
    # A last label of digits would be an address that somebody mistyped.
    if not _DNS_NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise UsageError(f"{name!r} is neither a DNS name nor an IP address")
    return x509.DNSName(name.lower())
