"""OpenSSL's own clients of OCSP and CRLs agree with the gateway on who is revoked, and when."""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import ocsp

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.state import StateDir
from support_pki import PASSPHRASE, make_state

SERIAL = "0x1234567890abcdef"
VERIFIED = "Response verify OK"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    return make_state(tmp_path_factory.mktemp("openssl-ocsp"))


@pytest.fixture(scope="module")
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    with GatewayProcess(state, PASSPHRASE, GatewayOptions()) as running:
        yield running


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


class OpenSsl:
    """The openssl tool, anchored at the root, and certificates for it to ask about."""

    def __init__(self, gateway: GatewayProcess, state: StateDir, folder: Path) -> None:
        self.gateway = gateway
        self.state = state
        self.folder = folder

    def new_leaf(self, device_id: str) -> Path:
        """Enrol a device by its token; returns its certificate's file."""
        self.gateway.admin.add_device(device_id)
        token = self.gateway.admin.create_token(device_id, lifetime_s=600)["token"]
        context = ssl.create_default_context(cafile=self.state.ca_certificate_pem("root"))
        with httpx.Client(verify=context, trust_env=False) as client:
            answer = client.post(
                f"{self.gateway.urls['enrol']}/.well-known/est/simpleenroll",
                content=base64.b64encode(_csr()),
                headers={"content-type": "application/pkcs10"},
                auth=(device_id, token),
            )
        assert answer.status_code == 200, answer.text
        (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
        return self.save(device_id, leaf)

    def new_idevid(self, device_id: str) -> Path:
        self.gateway.admin.add_device(device_id)
        der = self.gateway.admin.issue_idevid(device_id, _csr())
        return self.save(device_id, x509.load_der_x509_certificate(der))

    def save(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return path

    def ocsp(self, ca: str, *question: str | Path) -> str:
        """Ask about certificates of ``ca``; returns all that openssl said."""
        issuer = self.state.ca_certificate_pem(ca)
        url = f"{self.gateway.urls['public']}/ocsp"
        anchors = ("-CAfile", self.state.ca_certificate_pem("root"), "-verify_other", issuer)
        done = run("openssl", "ocsp", "-issuer", issuer, *question, "-url", url, *anchors)
        return done.stdout + done.stderr

    def crl_check(self, ca: str, leaf: Path) -> subprocess.CompletedProcess[str]:
        """Verify a certificate up to the root, and that the CA's list is without it."""
        der, pem = self.folder / f"{ca}.crl", self.folder / f"{ca}.crl.pem"
        url = f"{self.gateway.urls['public']}/crl/{ca}.crl"
        der.write_bytes(httpx.get(url, trust_env=False).raise_for_status().content)
        issuer = self.state.ca_certificate_pem(ca)
        read = ("openssl", "crl", "-inform", "DER", "-in", der, "-CAfile", issuer, "-out", pem)
        assert "verify OK" in run(*read).stderr
        verify = ("openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", pem)
        anchors = ("-CAfile", self.state.ca_certificate_pem("root"), "-untrusted", issuer)
        return run(*verify, *anchors, leaf)


@pytest.fixture
def openssl(gateway: GatewayProcess, state: StateDir, tmp_path: Path) -> OpenSsl:
    return OpenSsl(gateway, state, tmp_path)


def _csr() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


@pytest.mark.parametrize("digest", ["-sha1", "-sha256"])
@pytest.mark.parametrize("nonce", ["-nonce", "-no_nonce"])
def test_openssl_hears_good_and_verifies_the_answer_up_to_the_root(
    openssl: OpenSsl, digest: str, nonce: str
) -> None:
    leaf = openssl.new_leaf(f"good{digest}{nonce}".replace("_", "-"))
    said = openssl.ocsp("device", digest, "-cert", leaf, nonce)
    assert VERIFIED in said
    assert f"{leaf}: good" in said
    assert "WARNING" not in said  # that a nonce is missing from the answer


@pytest.mark.parametrize("ca", ["device", "factory", "server", "admin"])
def test_openssl_hears_unknown_of_a_serial_number_never_issued(openssl: OpenSsl, ca: str) -> None:
    said = openssl.ocsp(ca, "-sha256", "-serial", SERIAL)
    assert VERIFIED in said
    assert f"{SERIAL}: unknown" in said


def test_openssls_first_question_after_a_revocation_hears_of_it_by_answer_and_by_list(
    openssl: OpenSsl, tmp_path: Path
) -> None:
    leaf = openssl.new_leaf("revoked")
    # Both have been asked before: what they keep must not outlive the revocation.
    assert f"{leaf}: good" in openssl.ocsp("device", "-cert", leaf)
    assert openssl.crl_check("device", leaf).returncode == 0
    openssl.gateway.admin.revoke("revoked")
    answered = tmp_path / "answer.der"
    said = openssl.ocsp("device", "-cert", leaf, "-respout", answered)
    checked = openssl.crl_check("device", leaf)
    assert VERIFIED in said
    assert f"{leaf}: revoked" in said
    assert "Revocation Time:" in said
    # OpenSSL 3.0 has no name for this reason.
    reason = ocsp.load_der_ocsp_response(answered.read_bytes()).revocation_reason
    assert reason is x509.ReasonFlags.privilege_withdrawn
    assert checked.returncode != 0
    assert "certificate revoked" in checked.stderr


def test_openssl_hears_that_a_suspended_factory_certificate_is_on_hold(openssl: OpenSsl) -> None:
    leaf = openssl.new_idevid("held")
    assert openssl.crl_check("factory", leaf).returncode == 0
    openssl.gateway.admin.suspend("held")
    said = openssl.ocsp("factory", "-sha256", "-cert", leaf)
    assert f"{leaf}: revoked" in said
    assert "Reason: certificateHold" in said
    assert openssl.crl_check("factory", leaf).returncode != 0
    openssl.gateway.admin.resume("held")
    assert f"{leaf}: good" in openssl.ocsp("factory", "-sha256", "-cert", leaf)
    assert openssl.crl_check("factory", leaf).returncode == 0


def test_openssl_may_not_ask_about_several_certificates_at_once(openssl: OpenSsl) -> None:
    said = openssl.ocsp("device", "-serial", SERIAL, "-serial", "0x42")
    assert "Responder Error: malformedrequest (1)" in said


def test_openssl_is_told_that_the_root_is_not_answered_for(openssl: OpenSsl) -> None:
    said = openssl.ocsp("root", "-serial", SERIAL)
    assert "Responder Error: unauthorized (6)" in said


def test_openssl_hears_that_the_gateways_own_leaf_is_good(openssl: OpenSsl) -> None:
    address = openssl.gateway.urls["enrol"].removeprefix("https://")
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", address],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    ).stdout
    leaf = openssl.save("own", x509.load_pem_x509_certificate(shown))
    assert f"{leaf}: good" in openssl.ocsp("server", "-cert", leaf)
    openssl.gateway.admin.renew_leaf()
    assert f"{leaf}: good" in openssl.ocsp("server", "-cert", leaf)


@pytest.mark.parametrize("safe", ["", "+/="], ids=["escaped", "plain"])
def test_curl_gets_the_answer_to_openssls_request_in_the_path(
    openssl: OpenSsl, tmp_path: Path, safe: str
) -> None:
    issuer = openssl.state.ca_certificate_pem("device")
    asked, answered = tmp_path / "request.der", tmp_path / "answer.der"
    serial = 2**71 - 1  # in base64 that is a row of slashes
    question = ("-sha256", "-serial", hex(serial), "-no_nonce", "-reqout", asked)
    run("openssl", "ocsp", "-issuer", issuer, *question)
    text = base64.b64encode(asked.read_bytes()).decode()
    assert "//" in text
    url = f"{openssl.gateway.urls['public']}/ocsp/{quote(text, safe=safe)}"
    assert run("curl", "-sS", "--fail", "--noproxy", "*", "-o", answered, url).returncode == 0
    answer = ocsp.load_der_ocsp_response(answered.read_bytes())
    assert answer.serial_number == serial
    assert answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


def test_the_responder_certificate_is_openssls_ocsp_helper_and_no_client(
    openssl: OpenSsl, tmp_path: Path
) -> None:
    answered = tmp_path / "answer.der"
    openssl.ocsp("device", "-serial", SERIAL, "-respout", answered)
    (responder,) = ocsp.load_der_ocsp_response(answered.read_bytes()).certificates
    leaf = openssl.save("responder", responder)
    chain = ("-CAfile", openssl.state.ca_certificate_pem("root"))
    chain = (*chain, "-untrusted", openssl.state.ca_certificate_pem("device"))
    strict = ("openssl", "verify", "-x509_strict", *chain, "-purpose")
    assert run(*strict, "ocsphelper", leaf).returncode == 0
    for purpose in ("sslclient", "sslserver", "timestampsign"):
        assert run(*strict, purpose, leaf).returncode != 0
    assert "OCSP No Check" in run("openssl", "x509", "-in", leaf, "-noout", "-text").stdout
