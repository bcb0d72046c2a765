"""Enrolment by Cisco's libest, the EST client that other EST servers are tried with."""

from __future__ import annotations

import base64
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from handfast.boards.sources import fetch, find_source
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

PASSPHRASE = b"a passphrase for tests"
PINNED = Path(__file__).with_name("libest.toml")

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="libest is pinned for amd64 only"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libest")
    for name in ("libest3", "libest-utils"):
        package = fetch(find_source(name, "3.2.0", file=PINNED))
        subprocess.run(["dpkg", "-x", package, folder], check=True, timeout=60)
    return folder / "usr" / "bin" / "estclient"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("libest-est"))
    create_authorities(state, PASSPHRASE, trust_domain="example.test")
    return state


@pytest.fixture(scope="module")
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    with GatewayProcess(state, PASSPHRASE, GatewayOptions()) as running:
        yield running


class EstClient:
    """estclient, anchored at the CAs, writing into a folder of its own."""

    def __init__(self, program: Path, gateway: GatewayProcess, state: StateDir, out: Path) -> None:
        self.program = program
        self.url = urlsplit(gateway.urls["enrol"])
        self.out = out
        # It takes every intermediate as an anchor, or finds no chain.
        self.anchors = out / "anchors.pem"
        names = ("root", "server")
        self.anchors.write_text("".join(state.ca_certificate_pem(n).read_text() for n in names))

    def __call__(self, *options: str | Path) -> str:
        libraries = self.program.parents[1] / "lib" / "x86_64-linux-gnu"
        place = ("-s", str(self.url.hostname), "-p", str(self.url.port), "-o", self.out)
        done = subprocess.run(
            [self.program, *options, *place],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(libraries),
                "EST_OPENSSL_CACERT": str(self.anchors),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr  # it exits with 0 whatever happens

    def key(self, name: str) -> Path:
        path = self.out / f"{name}.key"
        command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path]
        subprocess.run(command, check=True, timeout=60)
        return path

    def certificates(self, kind: str) -> list[x509.Certificate]:
        (answer,) = self.out.glob(f"{kind}-*.pkcs7")
        found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.read_bytes()))
        answer.unlink()
        return found


@pytest.fixture
def est(program: Path, gateway: GatewayProcess, state: StateDir, tmp_path: Path) -> EstClient:
    return EstClient(program, gateway, state, tmp_path)


def use(gateway: GatewayProcess, leaf: Path, key: Path) -> None:
    command = [
        "curl",
        "-sS",
        "--fail",
        "--insecure",
        "--noproxy",
        "*",
        "--cert",
        leaf,
        "--key",
        key,
    ]
    subprocess.run([*command, f"{gateway.urls['api']}/v1/ping"], check=True, timeout=60)


def public_key(path: Path) -> object:
    return serialization.load_pem_private_key(path.read_bytes(), None).public_key()


def test_libest_reads_cacerts_and_csrattrs(est: EstClient, state: StateDir) -> None:
    said = est("-g") + est("-a")
    root = x509.load_pem_x509_certificate(state.ca_certificate_pem("root").read_bytes())
    assert root in est.certificates("cacert"), said
    (attributes,) = est.out.glob("csr-*.base64")
    assert b"\x2a\x86\x48\xce\x3d\x03\x01\x07" in base64.b64decode(attributes.read_bytes()), said


def test_libest_enrols_with_a_token_and_may_ask_again_with_its_unused_certificate(
    est: EstClient, gateway: GatewayProcess
) -> None:
    gateway.admin.add_device("libest")
    token = gateway.admin.create_token("libest", lifetime_s=600)["token"]
    key = est.key("device")
    said = est("-e", "-u", "libest", "-h", token, "-x", key)
    (leaf,) = est.certificates("cert")
    assert leaf.public_key() == public_key(key), said
    pem = est.out / "leaf.pem"
    pem.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    # Its re-enrolment keeps the key: the same answer until the leaf's first API request.
    said = est("-r", "-c", pem, "-k", key)
    assert est.certificates("cert") == [leaf], said
    use(gateway, pem, key)
    assert "EST_ERR" in est("-r", "-c", pem, "-k", key)
    assert not list(est.out.glob("cert-*"))


def test_libest_is_told_that_a_token_is_wrong(est: EstClient, gateway: GatewayProcess) -> None:
    gateway.admin.add_device("guesser")
    said = est("-e", "-u", "guesser", "-h", "wrong", "-x", est.key("guessed"))
    assert "EST_ERR_AUTH_FAIL" in said
    assert not list(est.out.glob("cert-*"))
