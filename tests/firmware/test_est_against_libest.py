"""The device's EST client against Cisco's estserver, another implementation of RFC 7030."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from device_interpreter import run_script
from device_pki import encoded, rsa_key
from est_peer import P256_WANTED, device_ca, root_ca, server_ca, tls_context
from hostile_peer import hold_port, wait_for

from handfast.boards.sources import fetch, find_source

_PINNED = Path(__file__).parent.parent / "interop" / "libest.toml"
_LIFE_S = 60  # it ends by itself, whatever becomes of us
_PASSWORD = "estpwd"  # built into estserver, as the user is
_CA = """
[ca]
default_ca = device
[device]
certificate = {folder}/device.pem
private_key = {folder}/device.key
database = {folder}/index.txt
serial = {folder}/serial
new_certs_dir = {folder}
default_days = 1
default_md = sha256
unique_subject = no
policy = any
x509_extensions = leaf
[any]
commonName = optional
[leaf]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
"""

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="libest is pinned for amd64 only"
)
Serve = Callable[..., int]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libest")
    for name in ("libest3", "libest-utils"):
        package = fetch(find_source(name, "3.2.0", file=_PINNED))
        subprocess.run(["dpkg", "-x", package, folder], check=True, timeout=60)
    return folder / "usr"


def write_authority(folder: Path) -> None:
    """Write what estserver needs to serve a root, a `server` CA and a `device` CA that issues."""

    def pem(*certificates: object) -> bytes:
        return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)

    root, server, device = root_ca(), server_ca(), device_ca()
    (folder / "root.der").write_bytes(encoded(root))
    (folder / "cacerts.pem").write_bytes(pem(server, root))
    (folder / "trusted.pem").write_bytes(pem(root, server, device))
    (folder / "device.pem").write_bytes(pem(device))
    private = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "device.key").write_bytes(rsa_key("device").private_bytes(*private))
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "ca.cnf").write_text(_CA.format(folder=folder))
    tls_context(folder)


@pytest.fixture
def serve(unpacked: Path, tmp_path: Path) -> Iterator[Serve]:
    """Starts estserver with these options on a port, which is returned; it is ended afterwards."""
    running: list[subprocess.Popen[bytes]] = []
    holders: list[socket.socket] = []
    write_authority(tmp_path)

    def start(*options: str, csrattrs: bytes | None = P256_WANTED) -> int:
        holders.append(hold_port())
        port = holders[-1].getsockname()[1]
        leaf = "leaf-of-server.pem"
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(unpacked / "lib" / "x86_64-linux-gnu"),
            "EST_TRUSTED_CERTS": "trusted.pem",
            "EST_CACERTS_RESP": "cacerts.pem",
            "EST_OPENSSL_CACONFIG": "ca.cnf",
        }
        if csrattrs is not None:
            environment["EST_CSR_ATTR"] = base64.b64encode(csrattrs).decode()
        command = [unpacked / "bin" / "estserver", "-c", leaf, "-k", leaf, "-r", "realm", "-b"]
        with (tmp_path / "estserver.txt").open("wb") as output:
            process = subprocess.Popen(
                [*command, "-p", str(port), "-d", str(_LIFE_S), *options],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running.append(process)
        wait_for(port, process)
        return port

    try:
        yield start
    finally:
        for process in running:
            process.kill()
            process.wait(10)
        for holder in holders:
            holder.close()


@pytest.fixture
def est(micropython: Path, tmp_path: Path) -> Callable[..., list[object]]:
    """Runs one exchange of a board that knows nothing but the root's fingerprint."""

    def run(port: int, what: str = "bootstrap", password: str = _PASSWORD) -> list[object]:
        root = tmp_path / "mtls"
        root.mkdir()
        url = f"https://127.0.0.1:{port}"
        fingerprint = hashlib.sha256((tmp_path / "root.der").read_bytes()).hexdigest()
        config = {"schema": 1, "device_id": "estuser", "api_url": url, "enrol_url": url}
        config |= {"trust_domain": "t", "root_sha256": fingerprint}
        (root / "config.json").write_text(json.dumps(config))
        arguments = (str(root), url, "60000", what, "estuser", password)
        (line,) = run_script(micropython, "est_client.py", *arguments, cwd=tmp_path)
        return json.loads(line)

    return run


def test_a_board_bootstraps_by_fingerprint_and_enrols_at_estserver(
    serve: Serve, est: Callable[..., list[object]]
) -> None:
    assert est(serve())[0] == "leaf"


def test_a_board_renews_at_estserver_by_the_leaf_that_it_got_there(
    serve: Serve, est: Callable[..., list[object]]
) -> None:
    """`-o`: a client certificate that is good takes the place of the password."""
    kind, _, *renewal = est(serve("-o"), "bootstrap-and-renew")
    assert (kind, renewal) == ("leaf", ["renewed", True])


def test_estserver_says_that_the_password_is_wrong(
    serve: Serve, est: Callable[..., list[object]]
) -> None:
    assert est(serve(), password="wrong") == ["Refused", 401, None, 0]


def test_estserver_that_waits_for_a_person_says_so_and_certifies_the_same_key_later(
    serve: Serve, est: Callable[..., list[object]]
) -> None:
    outcome = est(serve("-m", "60"), "patient-bootstrap")
    assert outcome[:3] == ["pending", 60, "leaf"]


def test_estserver_that_wants_p384_is_told_no(
    serve: Serve, est: Callable[..., list[object]]
) -> None:
    outcome = est(serve(csrattrs=None))  # what it asks for when nobody tells it
    assert outcome[0] == "UnsupportedAlgorithm"
