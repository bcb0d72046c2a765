from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pki_kit import new_key

from handfast.errors import Refused, UsageError
from handfast.pki import der
from handfast.pki.authorities import Authority
from handfast.pki.issue import issue_ocsp_leaf
from handfast.pki.ocsp import (
    MAX_REQUEST_BYTES,
    RESPONSE_LIFETIME,
    Good,
    Responder,
    Revoked,
    Status,
    Unknown,
    respond,
)

_ISSUING = ("device", "factory", "server", "admin")
_LEAF_LIFETIME_S = 86_400

# The default of most clients (RFC 6960 section 4.3).
_SHA1 = hashes.SHA1()  # noqa: S303

_once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@dataclass
class Service:
    """Responders of three CAs, and what they know."""

    authorities: dict[str, Authority]
    now: datetime
    responders: list[Responder] = field(default_factory=list)
    known: dict[tuple[str, int], Status] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("device", "factory", "server"):
            authority = self.authorities[name]
            pair = issue_ocsp_leaf(authority, lifetime_s=_LEAF_LIFETIME_S, now=self.now)
            self.responders.append(Responder(name, authority.certificate, pair))

    def answer(self, request: bytes, **changes: object) -> bytes:
        arguments: dict[str, object] = {"now": self.now} | changes
        return respond(
            request,
            responders=self.responders,
            status_of=lambda ca, serial: self.known.get((ca, serial), Unknown()),
            **arguments,  # type: ignore[arg-type]
        )

    def ask(self, request: bytes, **changes: object) -> ocsp.OCSPResponse:
        return ocsp.load_der_ocsp_response(self.answer(request, **changes))


@pytest.fixture
def service(authorities: dict[str, Authority]) -> Service:
    made = authorities["device"].certificate.not_valid_before_utc
    return Service(authorities, made + timedelta(hours=2, microseconds=987_654))


def request(
    issuer: x509.Certificate,
    serial: int = 4711,
    *,
    algorithm: hashes.HashAlgorithm | None = None,
    nonce: bytes | None = None,
) -> bytes:
    algorithm = algorithm or _SHA1
    name, key = (hashlib.new(algorithm.name, content).digest() for content in _name_and_key(issuer))
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, serial, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _name_and_key(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    key = issuer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return issuer.subject.public_bytes(), key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    point = (Encoding.X962, PublicFormat.UncompressedPoint)
    return issuer.subject.public_bytes(), key.public_bytes(*point)


def _sha1(content: bytes) -> bytes:
    return hashlib.sha1(content, usedforsecurity=False).digest()


def cert_id(issuer: x509.Certificate, serial: int) -> bytes:
    """Return a Request with one certID, as it stands in a requestList."""
    name, key = (_sha1(content) for content in _name_and_key(issuer))
    algorithm = der.sequence(der.oid("1.3.14.3.2.26"), der.tlv(der.NULL))
    fields = (algorithm, der.octets(name), der.octets(key), der.integer(serial))
    return der.sequence(der.sequence(*fields))


def assert_signed(answer: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    (leaf,) = answer.certificates
    leaf.verify_directly_issued_by(issuer)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
    ski = x509.SubjectKeyIdentifier.from_public_key(key)
    assert answer.responder_key_hash == ski.digest


@pytest.mark.parametrize("algorithm", [_SHA1, hashes.SHA256()], ids=["sha1", "sha256"])
@pytest.mark.parametrize("name", ["device", "factory", "server"])
def test_the_ca_is_found_by_its_hashes_and_its_responder_signs(
    service: Service, name: str, algorithm: hashes.HashAlgorithm
) -> None:
    issuer = service.authorities[name].certificate
    service.known[name, 4711] = Good()
    answer = service.ask(request(issuer, algorithm=algorithm))
    assert answer.response_status is OCSPResponseStatus.SUCCESSFUL
    assert answer.certificate_status is OCSPCertStatus.GOOD
    assert answer.serial_number == 4711
    assert answer.hash_algorithm.name == algorithm.name
    assert_signed(answer, issuer)


def test_the_answer_holds_for_a_minute_from_now(service: Service) -> None:
    answer = service.ask(request(service.authorities["device"].certificate))
    assert answer.this_update_utc == service.now.replace(microsecond=0)
    assert answer.next_update_utc == answer.this_update_utc + RESPONSE_LIFETIME
    assert timedelta(seconds=60) == RESPONSE_LIFETIME


@pytest.mark.parametrize("reason", [None, *x509.ReasonFlags], ids=str)
def test_a_revoked_one_has_its_time_and_reason(
    service: Service, reason: x509.ReasonFlags | None
) -> None:
    when = service.now - timedelta(minutes=5)
    service.known["device", 9] = Revoked(when, reason)
    answer = service.ask(request(service.authorities["device"].certificate, 9))
    assert answer.certificate_status is OCSPCertStatus.REVOKED
    assert answer.revocation_time_utc == when.replace(microsecond=0)
    assert answer.revocation_reason is reason


def test_a_serial_number_of_another_ca_is_unknown(service: Service) -> None:
    service.known["device", 9] = Good()
    answer = service.ask(request(service.authorities["factory"].certificate, 9))
    assert answer.certificate_status is OCSPCertStatus.UNKNOWN
    assert answer.revocation_time_utc is None


@pytest.mark.parametrize("serial", [0, 1, 2**159 - 1, 2**20_000], ids=range(4))
def test_any_serial_number_that_is_not_negative_gets_an_answer(
    service: Service, serial: int
) -> None:
    answer = service.ask(request(service.authorities["device"].certificate, serial))
    assert answer.certificate_status is OCSPCertStatus.UNKNOWN
    assert answer.serial_number == serial


def test_a_negative_serial_number_is_malformed(service: Service) -> None:
    one = cert_id(service.authorities["device"].certificate, -1)
    answer = service.ask(der.sequence(der.sequence(der.sequence(one))))
    assert answer.response_status is OCSPResponseStatus.MALFORMED_REQUEST


@pytest.mark.parametrize("size", [1, 16, 32, 128])
def test_the_nonce_is_echoed(service: Service, size: int) -> None:
    nonce = bytes(range(size))
    answer = service.ask(request(service.authorities["device"].certificate, nonce=nonce))
    (extension,) = answer.extensions
    assert extension.value == x509.OCSPNonce(nonce)
    assert not extension.critical


def test_without_a_nonce_there_is_none_in_the_answer(service: Service) -> None:
    assert list(service.ask(request(service.authorities["device"].certificate)).extensions) == []


@pytest.mark.parametrize("size", [0, 129])
def test_a_nonce_of_a_size_not_allowed_is_malformed(service: Service, size: int) -> None:
    answer = service.ask(request(service.authorities["device"].certificate, nonce=bytes(size)))
    assert answer.response_status is OCSPResponseStatus.MALFORMED_REQUEST


@pytest.mark.parametrize(("count", "wanted"), [(0, 1), (1, 0), (2, 1), (30, 1)])
def test_only_one_certificate_may_be_asked_about(service: Service, count: int, wanted: int) -> None:
    issuer = service.authorities["device"].certificate
    several = [cert_id(issuer, serial) for serial in range(count)]
    answer = service.ask(der.sequence(der.sequence(der.sequence(*several))))
    assert answer.response_status.value == wanted


@pytest.mark.parametrize("critical", [False, True])
def test_an_unknown_extension_is_ignored_unless_it_is_critical(
    service: Service, critical: bool
) -> None:
    one = der.sequence(cert_id(service.authorities["device"].certificate, 1))
    flag = der.tlv(der.BOOLEAN, b"\xff") if critical else b""
    extension = der.sequence(der.oid("1.2.3.4"), flag, der.octets(b"\x05\x00"))
    asked = der.sequence(der.sequence(one, der.context(2, der.sequence(extension))))
    wanted = OCSPResponseStatus.MALFORMED_REQUEST if critical else OCSPResponseStatus.SUCCESSFUL
    assert service.ask(asked).response_status is wanted


@pytest.mark.parametrize("name", ["root", "admin"])
def test_for_a_ca_without_a_responder_the_answer_is_unauthorized(
    service: Service, name: str
) -> None:
    answer = service.ask(request(service.authorities[name].certificate))
    assert answer.response_status is OCSPResponseStatus.UNAUTHORIZED


def test_a_ca_of_the_same_name_with_another_key_is_not_ours(service: Service) -> None:
    name, _ = _name_and_key(service.authorities["device"].certificate)
    _, key = _name_and_key(service.authorities["factory"].certificate)
    ids = (_sha1(name), _sha1(key))
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*ids, 1, _SHA1)
    answer = service.ask(builder.build().public_bytes(Encoding.DER))
    assert answer.response_status is OCSPResponseStatus.UNAUTHORIZED


@pytest.mark.parametrize("algorithm", [hashes.SHA384(), hashes.SHA512()], ids=["384", "512"])
def test_other_hashes_name_no_ca_of_ours(service: Service, algorithm: hashes.HashAlgorithm) -> None:
    asked = request(service.authorities["device"].certificate, algorithm=algorithm)
    assert service.ask(asked).response_status is OCSPResponseStatus.UNAUTHORIZED


def test_what_is_too_long_is_malformed_whatever_it_holds(service: Service) -> None:
    asked = request(service.authorities["device"].certificate, 2 ** (8 * MAX_REQUEST_BYTES))
    assert service.ask(asked).response_status is OCSPResponseStatus.MALFORMED_REQUEST


def test_no_answer_outlives_its_responder(service: Service) -> None:
    asked = request(service.authorities["device"].certificate)
    end = service.responders[0].pair.certificate.not_valid_after_utc
    last = service.ask(asked, now=end - timedelta(seconds=20))
    assert last.next_update_utc == end
    assert service.ask(asked, now=end).response_status is OCSPResponseStatus.TRY_LATER


@_once
@given(st.binary(max_size=300))
def test_any_bytes_get_an_answer(service: Service, junk: bytes) -> None:
    assert service.ask(junk).response_status is OCSPResponseStatus.MALFORMED_REQUEST


@_once
@given(st.data())
def test_a_mutated_request_gets_an_answer_and_never_a_good_one_for_what_is_not_known(
    service: Service, data: st.DataObject
) -> None:
    issuer = service.authorities["device"].certificate
    algorithm = data.draw(st.sampled_from([_SHA1, hashes.SHA256()]))
    service.known["device", 4711] = Good()
    asked = bytearray(request(issuer, algorithm=algorithm, nonce=b"n" * 16))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(asked) - 1))
        kind = data.draw(st.sampled_from(["flip", "drop", "insert"]))
        value = data.draw(st.integers(0, 255))
        if kind == "flip":
            asked[at] = value
        elif kind == "insert":
            asked.insert(at, value)
        elif len(asked) > 1:
            del asked[at]
    answer = service.ask(bytes(asked))
    if answer.response_status is OCSPResponseStatus.SUCCESSFUL:
        good = answer.certificate_status is OCSPCertStatus.GOOD
        assert good == (answer.serial_number == 4711)


@pytest.mark.parametrize("name", _ISSUING)
def test_a_responder_leaf_signs_answers_and_nothing_else(
    authorities: dict[str, Authority], name: str
) -> None:
    issuer = authorities[name].certificate
    now = issuer.not_valid_before_utc + timedelta(hours=2)
    pair = issue_ocsp_leaf(authorities[name], lifetime_s=7 * 86_400, now=now)
    leaf = pair.certificate
    leaf.verify_directly_issued_by(issuer)
    found = {e.oid: e for e in leaf.extensions}
    usage = found[ExtensionOID.EXTENDED_KEY_USAGE]
    assert usage.critical
    assert list(usage.value) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    no_check = found[ExtensionOID.OCSP_NO_CHECK]
    assert no_check.value == x509.OCSPNoCheck()
    assert not no_check.critical
    assert ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in found
    assert not found[ExtensionOID.BASIC_CONSTRAINTS].value.ca
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=7)
    assert isinstance(pair.private_key, ec.EllipticCurvePrivateKey)
    assert isinstance(pair.private_key.curve, type(new_key().curve))
    assert pair.private_key.public_key() == leaf.public_key()


def test_a_responder_leaf_lives_days_and_never_comes_from_the_root(
    authorities: dict[str, Authority],
) -> None:
    now = authorities["root"].certificate.not_valid_before_utc + timedelta(hours=2)
    with pytest.raises(UsageError):
        issue_ocsp_leaf(authorities["device"], lifetime_s=7 * 86_400 + 1, now=now)
    with pytest.raises(Refused):
        issue_ocsp_leaf(authorities["root"], lifetime_s=3600, now=now)
