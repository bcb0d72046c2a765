"""``handfast enrol --csr``: the command against a gateway that runs, and what it refuses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from enrol_kit import Handfast, csr, known, new_key, ping

from handfast.lab.gateway_process import GatewayProcess
from handfast.state import StateDir


def the_leaf(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def test_the_certificate_for_a_request_opens_the_api(
    handfast: Handfast, state: StateDir, gateway: GatewayProcess, tmp_path: Path
) -> None:
    key = new_key()
    request, out = tmp_path / "request.pem", tmp_path / "leaf.pem"
    request.write_bytes(csr(key))
    done = handfast(
        "enrol", "--csr", request, "--device-id", "by-csr", "--hardware-id", "AB12", "--out", out
    )
    assert done.returncode == 0, done.stderr
    leaf = x509.load_pem_x509_certificate(out.read_bytes())
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "2.5.4.5=AB12,CN=by-csr"
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert ping(state, gateway, key, leaf, tmp_path)["device_id"] == "by-csr"


def test_a_process_reads_the_request_from_a_pipe(gateway: GatewayProcess, state: StateDir) -> None:
    del gateway
    key = new_key()
    done = subprocess.run(
        [sys.executable, "-m", "handfast", "enrol", "--csr", "-", "--device-id", "a-process"],
        input=csr(key),
        capture_output=True,
        timeout=120,
        check=True,
        env=os.environ | {"HANDFAST_DIR": str(state.root)},
    )
    assert the_leaf(done.stdout.decode()).public_key() == key.public_key()


def test_a_request_from_stdin_gives_pem_on_stdout_and_nothing_else(handfast: Handfast) -> None:
    key = new_key()
    done = handfast("enrol", "--csr", "-", "--device-id", "piped", stdin=csr(key, Encoding.DER))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-----BEGIN CERTIFICATE-----\n")
    assert done.stdout.endswith("-----END CERTIFICATE-----\n")
    assert the_leaf(done.stdout).public_key() == key.public_key()


@pytest.mark.parametrize(
    ("name", "options", "is_der"),
    [
        ("leaf.der", (), True),
        ("leaf.CER", (), True),
        ("leaf.crt", (), False),
        ("leaf.crt", ("--format", "der"), True),
        ("leaf.der", ("--format", "pem"), False),
    ],
)
def test_out_is_der_or_pem_as_its_name_or_format_says(
    handfast: Handfast, tmp_path: Path, name: str, options: tuple[str, ...], is_der: bool
) -> None:
    out, key = tmp_path / name, new_key()
    device_id = f"format-{name.lower()}-{len(options)}"
    asked = ("enrol", "--csr", "-", "--device-id", device_id, "--out", out, *options)
    assert handfast(*asked, stdin=csr(key)).returncode == 0
    load = x509.load_der_x509_certificate if is_der else x509.load_pem_x509_certificate
    assert load(out.read_bytes()).public_key() == key.public_key()


def test_json_describes_the_certificate_that_the_registry_has(
    handfast: Handfast, gateway: GatewayProcess
) -> None:
    done = handfast("enrol", "--csr", "-", "--device-id", "told", "--json", stdin=csr(new_key()))
    told = json.loads(done.stdout)
    (row,) = gateway.admin.device("told")["certificates"]
    leaf = the_leaf(told.pop("certificate"))
    assert leaf.fingerprint(hashes.SHA256()).hex() == row["sha256"]
    assert told == {
        "device_id": "told",
        "hardware_id": None,
        "out": None,
        **{name: row[name] for name in ("serial", "sha256", "not_before", "not_after")},
    }


def test_until_it_is_used_the_same_key_gets_the_same_certificate(
    handfast: Handfast, gateway: GatewayProcess
) -> None:
    key = new_key()
    asked = ("enrol", "--csr", "-", "--device-id", "repeating")
    # Another signature of the same key: it is the key that counts.
    first, second = (handfast(*asked, stdin=csr(key)).stdout for _ in range(2))
    assert first == second != ""
    assert len(gateway.admin.device("repeating")["certificates"]) == 1


def test_a_device_with_a_certificate_in_use_gets_another_only_by_renew(
    handfast: Handfast, state: StateDir, gateway: GatewayProcess, tmp_path: Path
) -> None:
    asked = ("enrol", "--csr", "-", "--device-id", "renewed")
    old, new = new_key(), new_key()
    first = the_leaf(handfast(*asked, stdin=csr(old)).stdout)
    ping(state, gateway, old, first, tmp_path)

    refused = handfast(*asked, stdin=csr(new))
    assert refused.returncode == 5
    assert "--renew" in refused.stderr
    spent = handfast(*asked, "--renew", stdin=csr(old))
    assert spent.returncode == 5
    assert "make a fresh key" in spent.stderr

    renewed = handfast(*asked, "--renew", stdin=csr(new))
    assert renewed.returncode == 0, renewed.stderr
    # The old one is good until the new one is used: a renewal that gets lost costs nothing.
    states = [row["state"] for row in gateway.admin.device("renewed")["certificates"]]
    assert sorted(states) == ["current", "pending"]
    ping(state, gateway, new, the_leaf(renewed.stdout), tmp_path)
    states = [row["state"] for row in gateway.admin.device("renewed")["certificates"]]
    assert sorted(states) == ["current", "superseded"]


def test_renewing_a_device_that_nobody_knows_is_refused(
    handfast: Handfast, gateway: GatewayProcess
) -> None:
    asked = ("enrol", "--csr", "-", "--device-id", "nobody", "--renew")
    assert handfast(*asked, stdin=csr(new_key())).returncode == 2
    assert "nobody" not in known(gateway)


def broken(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a PKCS#10"),
        (b"hello\n", "not a PKCS#10"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "PEM"),
        (bytes(100_000), "longer than"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"A" * 100_000, "longer than"),
        (csr(rsa.generate_private_key(65537, 2048)), "P-256"),
        (csr(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (broken(csr(new_key(), Encoding.DER)), "not signed by its own key"),
    ],
    ids=["empty", "text", "broken-pem", "long-der", "long-pem", "rsa", "p384", "signature"],
)
def test_a_bad_request_is_refused_before_anything_is_registered(
    handfast: Handfast, gateway: GatewayProcess, content: bytes, said: str
) -> None:
    done = handfast("enrol", "--csr", "-", "--device-id", "bad-request", stdin=content)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "bad-request" not in known(gateway)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--device-id", "Not A Name"), 2, "not a device_id"),
        (("--device-id", "x", "--hardware-id", "a_b"), 2, "not a hardware id"),
        (("--device-id", "nowhere", "--out", "/no/such/folder/leaf.pem"), 3, "/no/such/folder"),
    ],
    ids=["name", "hardware", "folder"],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_registered(
    handfast: Handfast,
    gateway: GatewayProcess,
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    before = known(gateway)
    done = handfast("enrol", "--csr", "-", *options, stdin=csr(new_key()))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert known(gateway) == before


def test_a_file_that_is_not_there_is_named(handfast: Handfast, tmp_path: Path) -> None:
    done = handfast("enrol", "--csr", tmp_path / "none.pem", "--device-id", "x")
    assert done.returncode == 2
    assert "none.pem" in done.stderr


def test_suspended_and_revoked_devices_and_other_hardware_are_refused(
    handfast: Handfast, gateway: GatewayProcess
) -> None:
    gateway.admin.add_device("stopped", hardware_id="AB12")
    asked = ("enrol", "--csr", "-", "--device-id", "stopped")
    other = handfast(*asked, "--hardware-id", "CD34", stdin=csr(new_key()))
    assert (other.returncode, "another board" in other.stderr) == (5, True)
    gateway.admin.suspend("stopped")
    suspended = handfast(*asked, stdin=csr(new_key()))
    assert (suspended.returncode, "device resume stopped" in suspended.stderr) == (5, True)
    gateway.admin.revoke("stopped")
    revoked = handfast(*asked, stdin=csr(new_key()))
    assert (revoked.returncode, "is revoked" in revoked.stderr) == (5, True)
    device = gateway.admin.device("stopped")
    assert (device["certificates"], device["tokens"]) == ([], [])


def test_without_a_gateway_it_is_unreachable(handfast: Handfast, tmp_path: Path) -> None:
    done = handfast(
        "enrol", "--csr", "-", "--device-id", "x", stdin=csr(new_key()), folder=tmp_path
    )
    assert done.returncode == 4
    assert "gateway serve" in done.stderr
