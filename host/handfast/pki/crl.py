"""Certificate revocation lists, for those who do not ask the gateway."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.pki.authorities import Authority

Revoked = tuple[int, datetime, x509.ReasonFlags | None]


def build_crl(
    authority: Authority,
    revoked: Iterable[Revoked],
    *,
    number: int,
    this_update: datetime,
    next_update: datetime,
) -> bytes:
    """Return a signed version 2 CRL in DER (RFC 5280 §5).

    Args:
        authority: the issuer of the certificates.
        revoked: serial number, time and reason of each; ``None`` and ``unspecified`` leave the
            reason out, as §5.3.1 wants.
        number: the CRL number; higher than in any CRL of this authority before.
        this_update: aware.
        next_update: aware, later; clients hold the list to be stale from then on.
    """
    key_id = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=authority.certificate.subject,
        last_update=_whole_second(this_update),
        next_update=_whole_second(next_update),
        # The list at once: adding one by one copies the list each time.
        revoked_certificates=[_entry(*entry) for entry in revoked],
        extensions=[
            x509.Extension(
                x509.AuthorityKeyIdentifier.oid,
                False,
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id.value),
            ),
            x509.Extension(x509.CRLNumber.oid, False, x509.CRLNumber(number)),
        ],
    )
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _entry(serial: int, when: datetime, reason: x509.ReasonFlags | None) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_whole_second(when))
    )
    if reason not in (None, x509.ReasonFlags.unspecified):
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()


def _whole_second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None)
