"""OpenSSL's time-stamp client and our authority understand each other."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.pki.issue import issue_tsa_leaf
from handfast.pki.timestamp import respond
from handfast.state import StateDir
from handfast.wire import TSA_POLICY_OID
from support_pki import load_all, make_state


@dataclass(frozen=True)
class Tsa:
    state: StateDir
    leaf_file: Path
    answer: Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    folder = tmp_path_factory.mktemp("openssl-ts")
    state = make_state(folder)
    server = load_all(state)["server"]
    pair = issue_tsa_leaf(server, lifetime_s=3600, now=datetime.now(UTC))
    key = pair.private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    leaf_file = folder / "tsa.pem"
    leaf_file.write_bytes(pair.certificate.public_bytes(Encoding.PEM))

    def answer(query: bytes) -> bytes:
        return respond(
            query,
            key=key,
            leaf=pair.certificate,
            chain=[server.certificate],
            now=datetime.now(UTC),
            serial=1234,
        )

    return Tsa(state, leaf_file, answer)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(b"what was there at that time")
    return path


def _openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )


def _exchange(tsa: Tsa, data: Path, *options: str) -> tuple[Path, Path]:
    query, reply = data.with_suffix(".tsq"), data.with_suffix(".tsr")
    asked = _openssl("ts", "-query", "-data", data, *options, "-out", query)
    assert asked.returncode == 0, asked.stderr
    reply.write_bytes(tsa.answer(query.read_bytes()))
    return query, reply


def _text(reply: Path) -> str:
    return _openssl("ts", "-reply", "-in", reply, "-text").stdout


def test_a_token_with_certificates_verifies_up_to_the_root(tsa: Tsa, data: Path) -> None:
    query, reply = _exchange(tsa, data, "-sha256", "-cert")
    root = tsa.state.ca_certificate_pem("root")
    for asked in (("-queryfile", query), ("-data", data)):
        result = _openssl("ts", "-verify", *asked, "-in", reply, "-CAfile", root)
        assert "Verification: OK" in result.stdout, result.stderr


def test_a_token_verifies_up_to_the_server_ca_alone(tsa: Tsa, data: Path) -> None:
    query, reply = _exchange(tsa, data, "-sha256", "-cert")
    server = tsa.state.ca_certificate_pem("server")
    result = _openssl(
        "ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", server, "-partial_chain"
    )
    assert "Verification: OK" in result.stdout, result.stderr


def test_a_token_without_certificates_verifies_with_those_at_hand(
    tsa: Tsa, data: Path, tmp_path: Path
) -> None:
    query, reply = _exchange(tsa, data, "-sha256")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        tsa.leaf_file.read_bytes() + tsa.state.ca_certificate_pem("server").read_bytes()
    )
    verify = ("ts", "-verify", "-queryfile", query, "-in", reply)
    root = tsa.state.ca_certificate_pem("root")
    good = _openssl(*verify, "-CAfile", root, "-untrusted", chain)
    assert "Verification: OK" in good.stdout, good.stderr
    assert _openssl(*verify, "-CAfile", root).returncode != 0


def test_the_text_of_a_reply_has_policy_digest_serial_and_accuracy(tsa: Tsa, data: Path) -> None:
    _, reply = _exchange(tsa, data, "-sha256", "-cert", "-tspolicy", TSA_POLICY_OID)
    text = _text(reply)
    assert "Status: Granted." in text
    assert f"Policy OID: {TSA_POLICY_OID}" in text
    assert "Hash Algorithm: sha256" in text
    assert "Serial number: 0x04D2" in text
    assert "Accuracy: 0x01 seconds" in text
    assert "Ordering: no" in text
    assert "Nonce: 0x" in text


def test_a_token_is_refused_for_other_data_another_nonce_or_another_anchor(
    tsa: Tsa, data: Path, tmp_path: Path
) -> None:
    _, reply = _exchange(tsa, data, "-sha256", "-cert")
    anchor = ("-CAfile", tsa.state.ca_certificate_pem("root"))
    other_data, other_query = tmp_path / "other", tmp_path / "other.tsq"
    other_data.write_bytes(b"something else")
    _openssl("ts", "-query", "-data", data, "-sha256", "-cert", "-out", other_query)
    by_data = _openssl("ts", "-verify", "-data", other_data, "-in", reply, *anchor)
    assert "message imprint mismatch" in by_data.stderr
    by_nonce = _openssl("ts", "-verify", "-queryfile", other_query, "-in", reply, *anchor)
    assert "nonce mismatch" in by_nonce.stderr
    device = ("-CAfile", tsa.state.ca_certificate_pem("device"), "-partial_chain")
    by_anchor = _openssl("ts", "-verify", "-data", data, "-in", reply, *device)
    assert by_anchor.returncode != 0


def test_a_token_changed_in_its_time_is_refused(tsa: Tsa, data: Path) -> None:
    query, reply = _exchange(tsa, data, "-sha256", "-cert")
    content = bytearray(reply.read_bytes())
    at = content.index(b"\x18\x0f20") + 2
    content[at : at + 4] = b"2019"
    reply.write_bytes(content)
    root = tsa.state.ca_certificate_pem("root")
    assert "2019" in _text(reply)
    result = _openssl("ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", root)
    assert result.returncode != 0


@pytest.mark.parametrize("digest", ["-sha1", "-sha384", "-sha512", "-sha3-256"])
def test_other_digests_are_rejected(tsa: Tsa, data: Path, digest: str) -> None:
    text = _text(_exchange(tsa, data, digest)[1])
    assert "Status: Rejected." in text
    assert "unrecognized or unsupported algorithm identifier" in text


def test_another_policy_is_rejected(tsa: Tsa, data: Path) -> None:
    text = _text(_exchange(tsa, data, "-sha256", "-tspolicy", "1.2.3.4")[1])
    assert "the requested TSA policy is not supported" in text


def test_junk_is_rejected_in_a_reply_that_openssl_reads(tsa: Tsa, tmp_path: Path) -> None:
    reply = tmp_path / "junk.tsr"
    reply.write_bytes(tsa.answer(b"\x30\x03junk"))
    assert "the data submitted has the wrong format" in _text(reply)
