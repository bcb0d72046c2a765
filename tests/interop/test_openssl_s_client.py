"""What ``openssl s_client`` can negotiate and what not: versions, suites, sessions, chains."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_server import Running, mutual, serving
from support_server_pki import pem, pki

SUITES_1_2 = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
]
REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(mutual()) as running:
        yield running


@pytest.fixture(scope="module")
def anchor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("s_client") / "server-ca.pem"
    path.write_text(pem(pki().server_ca.certificate))
    return path


def s_client(
    running: Running, anchor: Path, *options: str, stdin: bytes = REQUEST, wait: bool = True
) -> tuple[int, str]:
    """Run s_client as the device; return its exit code and all that it printed."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}"]
    command += ["-cert", pki().device.file, "-key", pki().device.file]
    command += ["-CAfile", str(anchor), "-partial_chain", "-verify_return_error"]
    command += ["-servername", "localhost", "-verify_hostname", "localhost"]
    if wait:
        command.append("-ign_eof")
    ended = subprocess.run(
        [*command, *options], input=stdin, capture_output=True, timeout=30, check=False
    )
    return ended.returncode, (ended.stdout + ended.stderr).decode(errors="replace")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_device_is_served(running: Running, anchor: Path, version: str) -> None:
    code, said = s_client(running, anchor, version)
    assert code == 0, said
    assert "Verify return code: 0 (ok)" in said
    assert "HTTP/1.1 200 OK" in said


@pytest.mark.parametrize("suite", SUITES_1_2)
def test_each_suite_of_the_policy_is_served(running: Running, anchor: Path, suite: str) -> None:
    code, said = s_client(running, anchor, "-tls1_2", "-cipher", suite)
    assert code == 0, said
    assert f"Cipher is {suite}" in said
    assert "HTTP/1.1 200 OK" in said


@pytest.mark.parametrize(
    "suites",
    [
        "kRSA",
        "AES128-GCM-SHA256",
        "DHE",
        "kECDHE:!AESGCM:!CHACHA20:!AESCCM",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-RSA-AES256-SHA384",
        "aNULL",
        "PSK",
        "eNULL",
    ],
)
def test_suites_without_forward_secrecy_or_aead_are_refused(
    running: Running, anchor: Path, suites: str
) -> None:
    code, said = s_client(running, anchor, "-tls1_2", "-cipher", f"{suites}:@SECLEVEL=0")
    assert code != 0
    assert "Cipher is (NONE)" in said, said
    assert "handshake failure" in said or "no ciphers available" in said, said


def test_a_refused_suite_is_logged(running: Running, anchor: Path) -> None:
    s_client(running, anchor, "-tls1_2", "-cipher", "kRSA")
    running.log.wait("tls_refused", reason="no-shared-cipher")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused_and_logged(
    running: Running, anchor: Path, version: str
) -> None:
    code, said = s_client(running, anchor, version, "-cipher", "ALL:@SECLEVEL=0")
    assert code != 0
    assert "alert protocol version" in said, said
    running.log.wait("tls_refused", reason="unsupported-protocol")


def test_tls_1_2_gives_no_session_to_resume(running: Running, anchor: Path, tmp_path: Path) -> None:
    session = tmp_path / "session.pem"
    _, said = s_client(running, anchor, "-tls1_2", "-sess_out", str(session))
    assert "New, TLSv1.2" in said
    assert re.search(r"Session-ID: *\n", said), said
    assert "TLS session ticket:" not in said
    assert not session.exists()


def test_tls_1_3_tickets_resume_nothing(running: Running, anchor: Path, tmp_path: Path) -> None:
    session = tmp_path / "session.pem"
    s_client(running, anchor, "-tls1_3", "-sess_out", str(session))
    for _ in range(3):
        code, said = s_client(running, anchor, "-tls1_3", "-sess_in", str(session))
        assert code == 0, said
        assert "New, TLSv1.3" in said
        assert "Reused" not in said


def test_reconnecting_five_times_makes_five_new_sessions(running: Running, anchor: Path) -> None:
    _, said = s_client(running, anchor, "-tls1_2", "-reconnect")
    assert len(re.findall(r"^New, TLSv1\.2", said, re.MULTILINE)) == 6, said
    assert "Reused" not in said


def test_renegotiation_by_the_client_is_refused(running: Running, anchor: Path) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-tls1_2"]
    command += ["-cert", pki().device.file, "-key", pki().device.file, "-CAfile", str(anchor)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while b"Verify return code" not in said:
            said += process.stdout.readline()
        process.stdin.write(b"R\n")
        process.stdin.flush()
        deadline = time.monotonic() + 15
        while (line := process.stdout.readline()) and time.monotonic() < deadline:
            said += line
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said


@pytest.mark.parametrize(
    ("suites", "issuers", "key"),
    [("ECDHE-RSA-AES128-GCM-SHA256", 0, "RSA"), ("ECDHE+AESGCM", 1, "ECDSA")],
)
def test_each_leaf_comes_with_its_own_chain(
    running: Running, anchor: Path, suites: str, issuers: int, key: str
) -> None:
    _, said = s_client(running, anchor, "-tls1_2", "-cipher", suites, "-showcerts")
    assert said.count("-----BEGIN CERTIFICATE-----") == 1 + issuers, said
    assert f"Peer signature type: {key}" in said


def test_the_list_of_client_cas_is_not_sent(running: Running, anchor: Path) -> None:
    _, said = s_client(running, anchor, "-tls1_2")
    assert "No client certificate CA names sent" in said
