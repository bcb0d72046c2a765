"""OpenSSL's own tool agrees with every certificate, list and envelope, and refuses what it must."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from handfast.pki.authorities import Authority
from handfast.pki.crl import build_crl
from handfast.pki.csr import parse_csr
from handfast.pki.issue import (
    issue_admin_leaf,
    issue_device_leaf,
    issue_idevid,
    issue_server_leaf,
    issue_tsa_leaf,
)
from handfast.pki.pkcs7 import certs_only
from handfast.state import StateDir
from support_pki import PASSPHRASE, load_all, make_state

_ISSUING = ("device", "factory", "server", "admin")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    return make_state(tmp_path_factory.mktemp("openssl-pki"))


@pytest.fixture(scope="module")
def authorities(state: StateDir) -> dict[str, Authority]:
    return load_all(state)


def _openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )


def _verify(
    folder: Path, leaf: x509.Certificate, *options: str | Path, anchor: Path
) -> subprocess.CompletedProcess[str]:
    path = folder / "leaf.pem"
    path.write_bytes(leaf.public_bytes(Encoding.PEM))
    return _openssl("verify", "-x509_strict", *options, "-CAfile", anchor, path)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _device(authority: Authority) -> x509.Certificate:
    return issue_device_leaf(
        authority,
        public_key=_key().public_key(),
        device_id="pump-7",
        trust_domain="example.test",
        hardware_id="E661",
        lifetime_s=86_400,
        now=datetime.now(UTC),
    )


def _idevid(authority: Authority) -> x509.Certificate:
    return issue_idevid(
        authority,
        public_key=_key().public_key(),
        device_id="pump-7",
        trust_domain="example.test",
        hardware_id=None,
        now=datetime.now(UTC),
    )


def _server(authority: Authority) -> x509.Certificate:
    names = ["gw.example.test", "127.0.0.1"]
    now = datetime.now(UTC)
    return issue_server_leaf(
        authority, key_kind="p256", names=names, lifetime_s=600, now=now
    ).certificate


def _tsa(authority: Authority) -> x509.Certificate:
    return issue_tsa_leaf(authority, lifetime_s=600, now=datetime.now(UTC)).certificate


def _admin(authority: Authority) -> x509.Certificate:
    return issue_admin_leaf(
        authority,
        name="Ada",
        public_key=_key().public_key(),
        lifetime_s=600,
        now=datetime.now(UTC),
    )


def _server_from(authority: Authority) -> x509.Certificate:
    """A server certificate that this CA must never have signed, flawless but for its issuer."""
    key, now = _key().public_key(), datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=60))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gw.example.test")]), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False
        )
        .sign(authority.key, hashes.SHA256())
    )


_LEAVES = [
    pytest.param("device", _device, "sslclient", id="LDevID"),
    pytest.param("factory", _idevid, "sslclient", id="IDevID"),
    pytest.param("server", _server, "sslserver", id="server"),
    pytest.param("server", _tsa, "timestampsign", id="TSA"),
    pytest.param("admin", _admin, "sslclient", id="admin"),
]


@pytest.mark.parametrize("name", _ISSUING)
def test_every_issuing_ca_verifies_up_to_the_root(state: StateDir, name: str) -> None:
    root, issuing = (state.ca_certificate_pem(ca) for ca in ("root", name))
    result = _openssl("verify", "-x509_strict", "-CAfile", root, issuing)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("issuer", "make", "purpose"), _LEAVES)
def test_leaf_verifies_up_to_the_root_and_to_its_ca_alone(
    tmp_path: Path,
    state: StateDir,
    authorities: dict[str, Authority],
    issuer: str,
    make: Callable[[Authority], x509.Certificate],
    purpose: str,
) -> None:
    leaf = make(authorities[issuer])
    issuing, root = state.ca_certificate_pem(issuer), state.ca_certificate_pem("root")
    whole = _verify(tmp_path, leaf, "-purpose", purpose, "-untrusted", issuing, anchor=root)
    assert whole.returncode == 0, whole.stderr
    partial = _verify(tmp_path, leaf, "-purpose", purpose, "-partial_chain", anchor=issuing)
    assert partial.returncode == 0, partial.stderr


@pytest.mark.parametrize(("issuer", "make", "purpose"), _LEAVES)
def test_leaf_is_good_for_its_one_purpose_only(
    tmp_path: Path,
    state: StateDir,
    authorities: dict[str, Authority],
    issuer: str,
    make: Callable[[Authority], x509.Certificate],
    purpose: str,
) -> None:
    leaf, issuing = make(authorities[issuer]), state.ca_certificate_pem(issuer)
    for other in {"sslclient", "sslserver", "timestampsign", "smimesign"} - {purpose}:
        result = _verify(tmp_path, leaf, "-purpose", other, "-partial_chain", anchor=issuing)
        assert result.returncode != 0, other


@pytest.mark.parametrize("name", ["device", "factory", "admin"])
def test_server_certificate_of_another_ca_is_refused_even_below_the_root(
    tmp_path: Path, state: StateDir, authorities: dict[str, Authority], name: str
) -> None:
    forged, purpose = _server_from(authorities[name]), ("-purpose", "sslserver")
    intermediate = ("-untrusted", state.ca_certificate_pem(name))
    by_root = _verify(
        tmp_path, forged, *purpose, *intermediate, anchor=state.ca_certificate_pem("root")
    )
    assert by_root.returncode != 0
    assert "unsuitable certificate purpose" in by_root.stderr
    server = state.ca_certificate_pem("server")
    options = (*purpose, *intermediate, "-partial_chain")
    assert _verify(tmp_path, forged, *options, anchor=server).returncode != 0
    # The same certificate of the right CA passes: it is refused for its issuer and nothing else.
    genuine = _server_from(authorities["server"])
    assert _verify(tmp_path, genuine, *purpose, "-partial_chain", anchor=server).returncode == 0


def test_an_issuing_ca_cannot_make_another_ca(
    tmp_path: Path, state: StateDir, authorities: dict[str, Authority]
) -> None:
    device, key, now = authorities["device"], _key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "one CA too many")])
    child = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(device.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            device.certificate.extensions.get_extension_for_class(x509.KeyUsage).value, True
        )
        .add_extension(
            device.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value, True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(device.key.public_key()), False
        )
        .sign(device.key, hashes.SHA256())
    )
    leaf = _device(Authority("device", key, child))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        child.public_bytes(Encoding.PEM) + state.ca_certificate_pem("device").read_bytes()
    )
    result = _verify(tmp_path, leaf, "-untrusted", chain, anchor=state.ca_certificate_pem("root"))
    assert result.returncode != 0
    assert "path length constraint exceeded" in result.stderr


def test_text_of_a_device_leaf_has_its_names_and_one_purpose(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    path = tmp_path / "leaf.der"
    path.write_bytes(_device(authorities["device"]).public_bytes(Encoding.DER))
    text = _openssl("x509", "-inform", "DER", "-in", path, "-noout", "-text").stdout
    assert "CN = pump-7, serialNumber = E661" in text
    assert "URI:spiffe://example.test/device/pump-7" in text
    assert "TLS Web Client Authentication\n" in text
    assert "CA:FALSE" in text
    assert "Signature Algorithm: ecdsa-with-SHA256" in text
    assert "NIST CURVE: P-256" in text


def test_text_of_the_time_stamp_leaf_has_one_critical_purpose(
    tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    path = tmp_path / "tsa.der"
    path.write_bytes(_tsa(authorities["server"]).public_bytes(Encoding.DER))
    lines = _openssl("x509", "-inform", "DER", "-in", path, "-noout", "-text").stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if "Extended Key Usage: critical" in line)
    assert lines[heading + 1].strip() == "Time Stamping"


@pytest.mark.parametrize("name", ["root", "device"])
def test_key_files_open_with_the_passphrase_and_with_no_other(state: StateDir, name: str) -> None:
    path = state.ca_key(name)
    good = _openssl("pkey", "-in", path, "-passin", f"pass:{PASSPHRASE.decode()}", "-pubout")
    assert good.stdout == state_public_key(state, name)
    assert _openssl("pkey", "-in", path, "-passin", "pass:other", "-pubout").returncode != 0


def state_public_key(state: StateDir, name: str) -> str:
    certificate = x509.load_der_x509_certificate(state.ca_certificate(name).read_bytes())
    return (
        certificate.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def test_a_request_made_by_openssl_is_read_and_verified_alike(tmp_path: Path) -> None:
    request = tmp_path / "request.der"
    made = _openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc",
        "-keyout", tmp_path / "key.pem", "-subj", "/CN=pump-7", "-outform", "DER", "-out", request,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    verified = _openssl("req", "-inform", "DER", "-in", request, "-verify", "-noout", "-pubkey")
    assert verified.returncode == 0
    key = parse_csr(request.read_bytes()).public_key
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert pem in verified.stdout


def test_certs_only_envelope_is_read(tmp_path: Path, authorities: dict[str, Authority]) -> None:
    path = tmp_path / "certs.p7"
    path.write_bytes(certs_only([authorities[name].certificate for name in ("root", "server")]))
    text = _openssl("pkcs7", "-inform", "DER", "-in", path, "-print_certs", "-noout").stdout
    subjects = {line for line in text.splitlines() if line.startswith("subject")}
    assert subjects == {"subject=CN = Handfast root CA", "subject=CN = Handfast server CA"}


def test_a_revoked_leaf_is_refused_with_the_list(
    tmp_path: Path, state: StateDir, authorities: dict[str, Authority]
) -> None:
    device = authorities["device"]
    leaf, other = _device(device), _device(device)
    now = datetime.now(UTC)
    path = tmp_path / "device.crl"
    path.write_bytes(
        build_crl(
            device,
            [(leaf.serial_number, now, x509.ReasonFlags.key_compromise)],
            number=1,
            this_update=now,
            next_update=now + timedelta(hours=1),
        )
    )
    pem = tmp_path / "device.crl.pem"
    _openssl("crl", "-inform", "DER", "-in", path, "-out", pem)
    options = ("-partial_chain", "-crl_check", "-CRLfile", pem)
    anchor = state.ca_certificate_pem("device")
    refused = _verify(tmp_path, leaf, *options, anchor=anchor)
    assert "certificate revoked" in refused.stderr
    passed = _verify(tmp_path, other, *options, anchor=anchor)
    assert passed.returncode == 0, passed.stderr
