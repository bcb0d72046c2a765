"""What those who do not ask the gateway hear of a revocation: CRL and OCSP, read by openssl."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from handfast.errors import CheckFailed, Unreachable
from handfast.lab.demo.est_client import certificate_request, enrol_new
from handfast.lab.demo.expect import expect
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.openssl import OpenSsl
from handfast.pki.profiles import ISSUING

_DEVICE_ID = "revoked-for-others"
_ANSWERED_CAS = tuple(profile.name for profile in ISSUING)
_HASHES = ("-sha1", "-sha256")
_KNOWN_WITHIN_S = 1.0
# Leaves begin a minute before they are issued, for slow clocks.
_LONGEST_RESPONDER_LIFE = timedelta(days=7, minutes=1)
_DOWNLOAD_S = 10.0
_SERIAL_BYTES = 16
_OCSP_REQUEST_TYPE = "application/ocsp-request"
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
        url = f"{self._public}/ocsp"
        return self._openssl.run(
            "ocsp", "-issuer", issuer, *question, "-url", url, *self._anchors(issuer)
        )

    def request(self, subject: _Subject, digest: str) -> Path:
        """Have a request made about a certificate, and not sent; return its file."""
        file = self._folder / f"{subject.ca}{digest}-request.der"
        about = ("-issuer", self._state.ca_certificate_pem(subject.ca), digest)
        said = self._openssl.run("ocsp", *about, "-cert", subject.file, "-reqout", file)
        expect(file.exists(), f"openssl makes no request: {said}")
        return file

    def judge(self, subject: _Subject, digest: str, request: Path, answer: bytes) -> str:
        """Return all that openssl says of an answer to a request that it made.

        Told of the request it compares the nonces, told of the certificate it says the status:
        never both at once.
        """
        issuer = self._state.ca_certificate_pem(subject.ca)
        file = request.with_name(f"{subject.ca}{digest}-answer.der")
        file.write_bytes(answer)
        # Without -no_nonce, a nonce made now takes the place of the request's.
        given = ("-respin", file, "-no_nonce", *self._anchors(issuer))
        said = self._openssl.run("ocsp", "-reqin", request, *given)
        expect(said.strip() == _VERIFIED, f"openssl does not accept the answer: {said}")
        about = ("-issuer", issuer, digest, "-cert", subject.file)
        return self._openssl.run("ocsp", *about, *given)

    def _anchors(self, issuer: Path) -> tuple[str | Path, ...]:
        return "-CAfile", self._state.ca_certificate_pem("root"), "-verify_other", issuer

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
        with self.client() as client:
            return self.keep_crl(ca, _fetch(client, "GET", f"/crl/{ca}.crl"))

    def client(self) -> httpx.Client:
        """Return who fetches on openssl's behalf."""
        return httpx.Client(base_url=self._public, timeout=_DOWNLOAD_S, trust_env=False)

    def keep_crl(self, ca: str, crl: bytes) -> Path:
        """Write a list to its file."""
        file = self._folder / f"{ca}.crl"
        file.write_bytes(crl)
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


def _fetch(client: httpx.Client, method: str, path: str, body: bytes | None = None) -> bytes:
    """Return the body of an answer.

    Raises:
        Unreachable: there is none, or it is an error's.
    """
    headers = {} if body is None else {"content-type": _OCSP_REQUEST_TYPE}
    try:
        answer = client.request(method, path, content=body, headers=headers).raise_for_status()
    except httpx.HTTPError as error:
        raise Unreachable(f"{method} {path}: {error}") from error
    return answer.content


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
    questions = [question for subject in subjects for question in _questions(asker, subject)]
    with asker.client() as client:
        for question in questions:  # the connection is open, and nothing to be made any more
            expect(not question.says_revoked(question.ask(client)), "revoked before it was")
        scene.admin.revoke(_DEVICE_ID)
        answers = _until_revoked(scene, client, questions, since=time.monotonic())
    for question, (answer, _) in zip(questions, answers, strict=True):
        question.judge(answer)
    lists = len(subjects)
    took_s = max(after_s for _, after_s in answers)
    return f"by both lists and {len(questions) - lists} answers, {took_s:.2f} s after"


class _Question(Protocol):
    """What is asked without openssl, so that its time is not counted, and judged by it."""

    def ask(self, client: httpx.Client) -> bytes:
        """Return the answer."""

    def says_revoked(self, answer: bytes) -> bool:
        """Tell whether to stop asking: a look at the answer, which is not verified."""

    def judge(self, answer: bytes) -> None:
        """Have openssl verify that the answer is good and says "revoked"."""


@dataclass(frozen=True, slots=True)
class _ByList:
    asker: _Asker
    subject: _Subject

    def ask(self, client: httpx.Client) -> bytes:
        return _fetch(client, "GET", f"/crl/{self.subject.ca}.crl")

    def says_revoked(self, answer: bytes) -> bool:
        serial = self.subject.certificate.serial_number
        crl = x509.load_der_x509_crl(answer)
        return crl.get_revoked_certificate_by_serial_number(serial) is not None

    def judge(self, answer: bytes) -> None:
        crl = self.asker.keep_crl(self.subject.ca, answer)
        expect(self.asker.lists(crl, self.subject), "openssl does not find it on the list")


@dataclass(frozen=True, slots=True)
class _ByAnswer:
    asker: _Asker
    subject: _Subject
    digest: str
    request: Path

    def ask(self, client: httpx.Client) -> bytes:
        return _fetch(client, "POST", "/ocsp", self.request.read_bytes())

    def says_revoked(self, answer: bytes) -> bool:
        response = ocsp.load_der_ocsp_response(answer)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise CheckFailed(f"no answer but {response.response_status.name}")
        return response.certificate_status is ocsp.OCSPCertStatus.REVOKED

    def judge(self, answer: bytes) -> None:
        said = self.asker.judge(self.subject, self.digest, self.request, answer)
        expect(_VERIFIED in said, f"openssl does not accept the answer: {said}")
        expect(f"{self.subject.file}: revoked" in said, f"openssl does not find it revoked: {said}")


def _questions(asker: _Asker, subject: _Subject) -> list[_Question]:
    answers = [
        _ByAnswer(asker, subject, digest, asker.request(subject, digest)) for digest in _HASHES
    ]
    return [_ByList(asker, subject), *answers]


def _until_revoked(
    scene: Scene, client: httpx.Client, questions: list[_Question], *, since: float
) -> list[tuple[bytes, float]]:
    """Ask each until it is answered "revoked"; return the answers and when they had arrived."""
    had: dict[int, tuple[bytes, float]] = {}
    while len(had) < len(questions):
        for number, question in enumerate(questions):
            if number in had:
                continue
            answer = question.ask(client)
            after_s = time.monotonic() - since
            revoked = question.says_revoked(answer)
            if after_s > _KNOWN_WITHIN_S:
                raise CheckFailed(
                    f"{after_s:.1f} s after revoke it is {'just' if revoked else 'not'} known"
                )
            if revoked:
                had[number] = answer, after_s
        scene.pause(0)
    return [had[number] for number in range(len(questions))]
