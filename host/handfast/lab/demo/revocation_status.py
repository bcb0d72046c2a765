"""What those who do not ask the gateway hear of a revocation: CRL and OCSP, read by openssl."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from handfast.errors import CheckFailed, Unreachable
from handfast.lab.demo.checks import expect
from handfast.lab.demo.est_client import certificate_request, enrol_new
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.openssl import OpenSsl
from handfast.lab.parallel import in_parallel

_DEVICE_ID = "revoked-for-others"
_ANSWERED_CAS = ("device", "factory", "server")
_HASHES = ("-sha1", "-sha256")
_KNOWN_WITHIN_S = 1.0
# Leaves begin a minute before they are issued, for slow clocks.
_LONGEST_RESPONDER_LIFE = timedelta(days=7, minutes=1)
_DOWNLOAD_S = 10.0
_SERIAL_BYTES = 16
_VERIFIED = "Response verify OK"


def revocation_status(scene: Scene, report: Report, tell: Tell) -> None:
    """Have openssl ask for two certificates of a device before and after it is revoked.

    Raises:
        EnvironmentProblem: openssl is not installed.
    """
    folder = scene.folder / "openssl"
    folder.mkdir()
    asker = _Asker(scene, OpenSsl.find(), folder)
    tell("openssl asks who answers for each CA")
    with report.check("revocation status: responders are delegated, one question each") as seen:
        seen += [_responders_are_delegated(asker), _several_questions_are_malformed(asker)]
    tell("openssl asks before and after a revocation")
    subjects: list[_Subject] = []
    with report.check("revocation status: good and unknown are told apart") as seen:
        subjects += _certificates(scene, folder)
        seen += [_all_are_good(asker, subjects), _unknown_is_unknown(asker)]
    with report.check("revocation status: CRL and OCSP know within a second") as seen:
        seen.append(_revoked_within_a_second(scene, asker, subjects))
    tell("openssl asked CRL and OCSP")


@dataclass(frozen=True, slots=True)
class _Subject:
    """A certificate to ask about, in ``file``; ``ca`` issued it."""

    ca: str
    certificate: x509.Certificate
    file: Path


def _certificates(scene: Scene, folder: Path) -> list[_Subject]:
    """Return the operational and the factory certificate of one new device."""
    leaf = enrol_new(scene, _DEVICE_ID).certificate
    request = certificate_request(ec.generate_private_key(ec.SECP256R1()))
    idevid = x509.load_der_x509_certificate(scene.admin.issue_idevid(_DEVICE_ID, request))
    subjects = []
    for ca, certificate in (("device", leaf), ("factory", idevid)):
        file = folder / f"{ca}-leaf.pem"
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        subjects.append(_Subject(ca, certificate, file))
    return subjects


class _Asker:
    """openssl, anchored at the root, and what it asks."""

    def __init__(self, scene: Scene, openssl: OpenSsl, folder: Path) -> None:
        self._state = scene.state
        self._public = scene.gateway.urls["public"]
        self._openssl = openssl
        self._folder = folder
        self.trust = scene.certificates()

    def ocsp(self, ca: str, *question: str | Path) -> str:
        """Ask about certificates of ``ca``; return all that openssl says of the answer."""
        issuer = self._state.ca_certificate_pem(ca)
        anchors = ("-CAfile", self._state.ca_certificate_pem("root"), "-verify_other", issuer)
        url = f"{self._public}/ocsp"
        return self._openssl.run("ocsp", "-issuer", issuer, *question, "-url", url, *anchors)

    def responder(self, ca: str) -> x509.Certificate:
        """Return the one certificate that comes with an answer."""
        file = self._folder / f"{ca}-answer.der"
        said = self.ocsp(ca, "-serial", _new_serial(), "-respout", file)
        expect(_VERIFIED in said, f"openssl does not accept the {ca} CA's responder: {said}")
        certificates = ocsp.load_der_ocsp_response(file.read_bytes()).certificates
        expect(len(certificates) == 1, f"{len(certificates)} certificates come with an answer")
        return certificates[0]

    def download_crl(self, ca: str) -> Path:
        """Fetch a CA's list; return its file."""
        file = self._folder / f"{ca}.crl"
        try:
            answer = httpx.get(
                f"{self._public}/crl/{ca}.crl", timeout=_DOWNLOAD_S, trust_env=False
            ).raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(f"no list of the {ca} CA: {error}") from error
        file.write_bytes(answer.content)
        return file

    def lists(self, crl: Path, subject: _Subject) -> bool:
        """Tell whether a downloaded list, signed by the CA, has the certificate on it.

        ``openssl crl`` and ``openssl verify`` must agree.
        """
        issuer = self._state.ca_certificate_pem(subject.ca)
        text = crl.with_suffix(".txt")  # and PEM, behind the text
        read = ("-inform", "DER", "-in", crl, "-CAfile", issuer, "-text", "-out", text)
        said = self._openssl.run("crl", *read)
        expect("verify OK" in said, f"openssl does not accept the {subject.ca} CA's list: {said}")
        listed = f"Serial Number: {_hex(subject.certificate.serial_number)}\n" in text.read_text()
        chain = ("-CAfile", self._state.ca_certificate_pem("root"), "-untrusted", issuer)
        checked = ("-x509_strict", "-crl_check", "-CRLfile", text)
        verdict = self._openssl.run("verify", *checked, *chain, subject.file)
        wanted = "certificate revoked" if listed else f"{subject.file}: OK"
        expect(wanted in verdict, f"openssl crl and openssl verify disagree: {verdict}")
        return listed


def _hex(serial: int) -> str:
    """Return a serial number as openssl prints it."""
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex().upper()


def _new_serial() -> str:
    return "0x" + secrets.token_hex(_SERIAL_BYTES)


# The promises


def _responders_are_delegated(asker: _Asker) -> str:
    for ca in _ANSWERED_CAS:
        responder = asker.responder(ca)
        try:
            responder.verify_directly_issued_by(asker.trust[ca])
        except (ValueError, TypeError, InvalidSignature):
            raise CheckFailed(f"the {ca} CA did not issue its responder's certificate") from None
        extensions = responder.extensions
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        expect(list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING], f"{ca}: {usage}")
        expect(
            any(isinstance(extension.value, x509.OCSPNoCheck) for extension in extensions),
            f"the {ca} CA's responder certificate has no id-pkix-ocsp-nocheck",
        )
        life = responder.not_valid_after_utc - responder.not_valid_before_utc
        expect(life <= _LONGEST_RESPONDER_LIFE, f"the {ca} CA's responder lives for {life}")
    return f"{len(_ANSWERED_CAS)} CAs, each with a responder of days below it"


def _several_questions_are_malformed(asker: _Asker) -> str:
    said = asker.ocsp("device", "-serial", _new_serial(), "-serial", _new_serial())
    expect("malformedrequest" in said, f"two questions in one are answered: {said}")
    return "two questions in one: malformedRequest"


def _all_are_good(asker: _Asker, subjects: list[_Subject]) -> str:
    for subject in subjects:
        listed = asker.lists(asker.download_crl(subject.ca), subject)
        expect(not listed, f"the {subject.ca} CA's list has a good certificate on it")
        for digest in _HASHES:
            said = asker.ocsp(subject.ca, digest, "-cert", subject.file)
            expect(_VERIFIED in said and f"{subject.file}: good" in said, said)
    return "leaf and IDevID: not on their lists, good by SHA-1 and SHA-256"


def _unknown_is_unknown(asker: _Asker) -> str:
    for ca in _ANSWERED_CAS:
        for digest in _HASHES:
            serial = _new_serial()
            said = asker.ocsp(ca, digest, "-serial", serial)
            expect(_VERIFIED in said and f"{serial}: unknown" in said, said)
    return "serials never issued: unknown"


def _revoked_within_a_second(scene: Scene, asker: _Asker, subjects: list[_Subject]) -> str:
    expect(bool(subjects), "there is no certificate to revoke")
    scene.admin.revoke(_DEVICE_ID)
    returned = time.monotonic()
    questions = [ask for subject in subjects for ask in _questions(asker, subject)]
    took_s = in_parallel(lambda ask: _first_revoked(scene, ask, returned), questions)
    return f"by both lists and {len(questions) - len(subjects)} answers, {max(took_s):.2f} s after"


# Says whether the certificate is revoked, and when (monotonic) the answer was there.
_Question = Callable[[], tuple[bool, float]]


def _questions(asker: _Asker, subject: _Subject) -> list[_Question]:
    def by_list() -> tuple[bool, float]:
        crl = asker.download_crl(subject.ca)
        had = time.monotonic()  # what openssl then reads in it was true by now
        return asker.lists(crl, subject), had

    def by_answer(digest: str) -> tuple[bool, float]:
        said = asker.ocsp(subject.ca, digest, "-cert", subject.file)
        had = time.monotonic()
        expect(_VERIFIED in said, f"openssl does not accept the answer: {said}")
        return f"{subject.file}: revoked" in said, had

    return [by_list, *(lambda digest=digest: by_answer(digest) for digest in _HASHES)]


def _first_revoked(scene: Scene, ask: _Question, since: float) -> float:
    """Ask until the answer is "revoked"; return the seconds until it was had."""
    while True:
        revoked, had = ask()
        after_s = had - since
        if after_s > _KNOWN_WITHIN_S:
            raise CheckFailed(
                f"{after_s:.1f} s after revoke it is {'just' if revoked else 'not'} known"
            )
        if revoked:
            return after_s
        scene.pause(0)
