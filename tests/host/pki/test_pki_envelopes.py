from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from pki_kit import NOW

from handfast.pki.authorities import Authority
from handfast.pki.crl import build_crl
from handfast.pki.pkcs7 import certs_only

_DAY = timedelta(days=1)


def test_certs_only_holds_exactly_the_certificates(authorities: dict[str, Authority]) -> None:
    sent = [authorities[name].certificate for name in ("root", "server")]
    assert set(pkcs7.load_der_pkcs7_certificates(certs_only(sent))) == set(sent)


@pytest.mark.parametrize("name", ["root", "device", "factory", "server", "admin"])
def test_every_ca_signs_its_list(authorities: dict[str, Authority], name: str) -> None:
    authority = authorities[name]
    reason = x509.ReasonFlags.key_compromise
    revoked = [
        (5, NOW, reason),
        (1 << 150, NOW - _DAY, None),
        (9, NOW, x509.ReasonFlags.unspecified),
    ]
    der = build_crl(authority, revoked, number=12, this_update=NOW, next_update=NOW + _DAY)
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type]
    assert crl.issuer == authority.certificate.subject
    assert crl.last_update_utc == NOW.replace(microsecond=0)
    assert crl.next_update_utc == NOW.replace(microsecond=0) + _DAY
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 12
    entries = {entry.serial_number: entry for entry in crl}
    assert entries.keys() == {5, 9, 1 << 150}
    assert entries[1 << 150].revocation_date_utc == NOW.replace(microsecond=0) - _DAY
    assert [e.value for e in entries[5].extensions] == [x509.CRLReason(reason)]
    assert not list(entries[9].extensions)


def test_an_empty_list_is_a_list(authorities: dict[str, Authority]) -> None:
    der = build_crl(authorities["device"], [], number=1, this_update=NOW, next_update=NOW + _DAY)
    assert len(x509.load_der_x509_crl(der)) == 0
