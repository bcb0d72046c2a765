"""Enrolment by tools that know nothing of Handfast: openssl makes the request, curl carries it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

PASSPHRASE = b"a passphrase for tests"
EST = ".well-known/est"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("curl-est"))
    create_authorities(state, PASSPHRASE, trust_domain="example.test")
    return state


@pytest.fixture(scope="module")
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    with GatewayProcess(state, PASSPHRASE, GatewayOptions()) as running:
        yield running


def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    ended = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended.stdout


class Curl:
    """curl, anchored at the root, with the files that a test makes."""

    def __init__(self, gateway: GatewayProcess, state: StateDir, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder
        self.root = state.ca_certificate_pem("root")
        self.device_ca = state.ca_certificate_pem("device")

    def __call__(self, listener: str, path: str, *options: str | Path) -> bytes:
        url = f"{self.gateway.urls[listener]}/{path}"
        return run("curl", "-sS", "--fail-with-body", "--cacert", self.root, *options, url)

    def request(self, name: str) -> Path:
        """Make a key and a base64 PKCS#10 with openssl."""
        key = self.folder / f"{name}.key"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        command = ("openssl", "req", "-new", "-key", key, "-subj", "/CN=anything", "-outform")
        body = self.folder / f"{name}.b64"
        body.write_bytes(base64.encodebytes(run(*command, "DER")))
        return body

    def enrol(self, operation: str, name: str, *options: str | Path) -> Path:
        """Send the request; returns the leaf in PEM, checked by openssl against the device CA."""
        body = self.request(name)
        post = ("--data-binary", f"@{body}", "-H", "Content-Type: application/pkcs10")
        answer = base64.b64decode(self("enrol", f"{EST}/{operation}", *post, *options))
        leaf = self.folder / f"{name}.pem"
        leaf.write_bytes(run("openssl", "pkcs7", "-inform", "DER", "-print_certs", stdin=answer))
        chain = ("-partial_chain", "-CAfile", self.device_ca, "-purpose", "sslclient")
        run("openssl", "verify", *chain, leaf)
        return leaf


@pytest.fixture
def curl(gateway: GatewayProcess, state: StateDir, tmp_path: Path) -> Curl:
    return Curl(gateway, state, tmp_path)


def identity(folder: Path, name: str) -> tuple[str | Path, ...]:
    return ("--cert", folder / f"{name}.pem", "--key", folder / f"{name}.key")


def test_curl_and_openssl_enrol_call_and_renew(curl: Curl, tmp_path: Path) -> None:
    curl.gateway.admin.add_device("curl")
    token = curl.gateway.admin.create_token("curl", lifetime_s=600)["token"]
    first = curl.enrol("simpleenroll", "first", "--user", f"curl:{token}")
    assert b"CN = curl" in run("openssl", "x509", "-noout", "-subject", "-in", first)
    me = json.loads(curl("api", "v1/ping", *identity(tmp_path, "first")))
    assert me["device_id"] == "curl"
    curl.enrol("device/simplereenroll", "second", *identity(tmp_path, "first"))
    me = json.loads(curl("api", "v1/devices/me", *identity(tmp_path, "second")))
    assert me["device_id"] == "curl"


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_openssl_reads_cacerts_and_csrattrs(curl: Curl, tls: str) -> None:
    versions = (f"--tlsv{tls}", "--tls-max", tls)
    cacerts = base64.b64decode(curl("enrol", f"{EST}/cacerts", *versions))
    listed = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout", stdin=cacerts)
    assert listed.count(b"subject=") == 4
    csrattrs = base64.b64decode(curl("enrol", f"{EST}/csrattrs", *versions))
    parsed = run("openssl", "asn1parse", "-inform", "DER", stdin=csrattrs)
    for name in (b"id-ecPublicKey", b"prime256v1", b"ecdsa-with-SHA256"):
        assert name in parsed


def test_openssl_sees_a_revoked_leaf_on_the_list(
    curl: Curl, state: StateDir, tmp_path: Path
) -> None:
    curl.gateway.admin.add_device("listed")
    token = curl.gateway.admin.create_token("listed", lifetime_s=600)["token"]
    leaf = curl.enrol("simpleenroll", "listed", "--user", f"listed:{token}")

    def verify() -> subprocess.CompletedProcess[bytes]:
        der = curl("public", "crl/device.crl")
        crl = tmp_path / "device.crl"
        crl.write_bytes(run("openssl", "crl", "-inform", "DER", stdin=der))
        command = ["openssl", "verify", "-partial_chain", "-crl_check", "-CRLfile", str(crl)]
        anchor = ["-CAfile", str(state.ca_certificate_pem("device"))]
        return subprocess.run([*command, *anchor, str(leaf)], capture_output=True, check=False)

    assert verify().returncode == 0
    curl.gateway.admin.revoke("listed")
    refused = verify()
    assert refused.returncode != 0
    assert b"certificate revoked" in refused.stderr
