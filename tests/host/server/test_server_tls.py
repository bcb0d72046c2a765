"""Mutual TLS: who gets in, what the application learns of them, and why others were refused."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from OpenSSL import SSL

from handfast.gateway.server import Listener, build_context
from handfast.gateway.server.refusals import handshake_refusal
from support_server import (
    Reader,
    Running,
    client_context,
    get,
    mutual,
    plain,
    post,
    serving,
    try_tls,
)
from support_server_pki import CLIENT_AUTH, DAY, SERVER_AUTH, Identity, issue, pem, pki

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = [TLS_1_2, TLS_1_3]


def ask(running: Running, identity: Identity | None = None, **options: Any) -> dict[str, Any]:
    """Make one request over TLS; return the scope that the application saw."""
    with running.connect_tls(identity, **options) as tls:
        tls.sendall(get())
        assert Reader(tls).answer().status == 200
    return dict(running.app.scopes[-1])


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_calls_over_mutual_tls(version: ssl.TLSVersion, new_loop: Any) -> None:
    with serving(mutual(), loop=new_loop) as running:
        with running.connect_tls(pki().device, version=version) as tls:
            for body in (b"one", b"two" * 5000):
                tls.sendall(post("/x", body))
                answer = Reader(tls).answer()
                assert answer.status == 200
                assert body.hex().encode() in answer.body
        assert (
            len({id(scope["extensions"]["handfast"]["peer"]) for scope in running.app.scopes}) == 1
        )


def test_an_ordinary_client_library_calls_over_mutual_tls() -> None:
    client = httpx.Client(verify=client_context(pki().device))
    with serving(mutual()) as running, client:
        url = running.listener.url.replace("127.0.0.1", "localhost")
        answers = [client.post(f"{url}/x", content=b"a" * n) for n in (0, 1, 60_000)]
        assert [answer.json()["body"] for answer in answers] == ["61" * n for n in (0, 1, 60_000)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_application_learns_who_called(version: ssl.TLSVersion) -> None:
    device = pki().device
    with serving(mutual()) as running:
        scope = ask(running, device, version=version)
    tls, peer = scope["extensions"]["tls"], scope["extensions"]["handfast"]["peer"]
    assert [x509.load_pem_x509_certificate(c.encode()) for c in tls["client_cert_chain"]] == [
        device.certificate
    ]
    assert tls["client_cert_name"] == "CN=board-1"
    assert tls["client_cert_error"] is None
    assert tls["tls_version"] == (0x0303 if version is TLS_1_2 else 0x0304)
    assert tls["cipher_suite"] == (0xC02B if version is TLS_1_2 else 0x1301)
    served = x509.load_pem_x509_certificate(tls["server_cert"].encode())
    assert served == pki().p256_leaf.certificate
    assert peer.client_certificate == device.certificate
    assert peer.client_certificate_sha256 == device.sha256
    assert peer.listener == scope["extensions"]["handfast"]["listener"] == "api"
    assert scope["scheme"] == "https"
    assert scope["client"][0] == "127.0.0.1"


def test_without_a_certificate_an_optional_listener_serves_and_says_so() -> None:
    with serving(mutual("optional")) as running:
        scope = ask(running)
    assert scope["extensions"]["tls"]["client_cert_chain"] == []
    assert scope["extensions"]["tls"]["client_cert_name"] is None
    assert scope["extensions"]["handfast"]["peer"].client_certificate_sha256 is None


def test_a_listener_that_wants_no_certificate_does_not_ask_for_one() -> None:
    with serving(mutual("none")) as running:
        scope = ask(running, pki().device)
    assert scope["extensions"]["handfast"]["peer"].client_certificate is None


def test_plain_http_has_no_tls_extension() -> None:
    with serving(plain()) as running:
        with running.connect() as connected:
            connected.sendall(get())
            Reader(connected).answer()
        assert "tls" not in running.app.scopes[-1]["extensions"]


# Refusals

NOW = datetime.now(UTC)


def _strangers() -> dict[str, tuple[str, Identity]]:
    ca, foreign = pki().device_ca, pki().foreign_ca
    wrong_ca = issue("board-1", ca, purposes=CLIENT_AUTH)
    return {
        "expired": (
            "certificate-expired",
            issue("board-1", ca, purposes=CLIENT_AUTH, begin=NOW - 2 * DAY),
        ),
        "not yet valid": (
            "certificate-not-yet-valid",
            issue("board-1", ca, purposes=CLIENT_AUTH, begin=NOW + timedelta(hours=1)),
        ),
        "of another CA with the same name": (
            "bad-signature",
            issue("board-1", foreign, purposes=CLIENT_AUTH),
        ),
        "of a CA that is not an anchor": (
            "untrusted-issuer",
            issue("board-1", pki().server_ca, purposes=CLIENT_AUTH),
        ),
        "of the root, which is not an anchor": (
            "untrusted-issuer",
            issue("board-1", pki().root, purposes=CLIENT_AUTH),
        ),
        "signed by itself": ("untrusted-issuer", issue("board-1", None, purposes=CLIENT_AUTH)),
        "for servers": ("wrong-purpose", issue("board-1", ca, purposes=SERVER_AUTH)),
        "signed with another key": (
            "bad-signature",
            issue(
                "board-1",
                ca,
                purposes=CLIENT_AUTH,
                signer=ec.generate_private_key(ec.SECP256R1()),
            ),
        ),
        "issued by a device": (
            "untrusted-issuer",
            issue("board-2", wrong_ca, purposes=CLIENT_AUTH),
        ),
    }


@pytest.fixture(scope="module")
def strangers() -> dict[str, tuple[str, Identity]]:
    return _strangers()


@pytest.mark.parametrize("requirement", ["required", "optional"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_does_not_verify_is_refused_and_logged(
    strangers: dict[str, tuple[str, Identity]], version: ssl.TLSVersion, requirement: str
) -> None:
    with serving(mutual(requirement)) as running:
        for what, (reason, stranger) in strangers.items():
            assert try_tls(running, stranger, version=version) is not None, what
            # Python's client sends an issuer along that it trusts itself; then that one is
            # what has no issuer here, and what is logged.
            sent_along = stranger.certificate.issuer == pki().server_ca.certificate.subject
            refused = pki().server_ca if sent_along else stranger
            line = running.log.wait("tls_refused", sha256=refused.sha256.hex())
            assert line["reason"] == reason, what
            assert line["listener"] == "api"
            assert line["depth"] == int(sent_along)
        assert running.app.scopes == []


def test_a_weak_key_is_refused_and_logged() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    weak = issue("board-1", pki().device_ca, purposes=CLIENT_AUTH, key=key)
    context = client_context()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.load_cert_chain(weak.file)
    with serving(mutual()) as running:
        tls = context.wrap_socket(running.connect(), server_hostname="localhost")
        with tls, pytest.raises(ssl.SSLError):
            tls.recv(1)
        assert running.log.wait("tls_refused")["reason"] == "weak-key"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_with_another_key_is_refused_and_named(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    copied = pki().device.certificate
    context = client_context(version=version)
    pair = tmp_path / "pair.pem"
    pair.write_bytes(_key_passed_off_as_of(copied) + pem(copied).encode())
    context.load_cert_chain(pair)

    def call(running: Running) -> None:
        with context.wrap_socket(running.connect(), server_hostname="localhost") as tls:
            tls.recv(1)  # where TLS 1.3 tells of a refusal

    with serving(mutual()) as running:
        with pytest.raises(ssl.SSLError, match="DECRYPT_ERROR"):
            call(running)
        assert running.log.wait("tls_refused")["reason"] == "bad-proof-of-possession"
        assert running.app.scopes == []


def _key_passed_off_as_of(certificate: x509.Certificate) -> bytes:
    """Return a new key with the public half of another: OpenSSL takes it for a matching pair."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    own, foreign = (
        k.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        for k in (key.public_key(), public)
    )
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    mixed = base64.encodebytes(der.replace(own, foreign))
    return b"-----BEGIN EC PRIVATE KEY-----\n" + mixed + b"-----END EC PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["provider signature failure", "bad signature"], "bad-proof-of-possession"),
        (["wrong signature type"], "bad-proof-of-possession"),
        (["ssl/tls alert bad certificate"], "refused-by-peer"),
        (["something new"], "protocol-error"),
    ],
)
def test_openssls_words_become_a_reason(texts: list[str], reason: str) -> None:
    error = SSL.Error([("SSL routines", "", text) for text in texts])
    assert handshake_refusal(error).reason == reason


@pytest.mark.parametrize(
    ("version", "alert"),
    [(TLS_1_2, "HANDSHAKE_FAILURE"), (TLS_1_3, "CERTIFICATE_REQUIRED")],
)
def test_without_a_certificate_a_client_is_refused_and_reads_why(
    version: ssl.TLSVersion, alert: str
) -> None:
    with serving(mutual()) as running:
        assert alert in str(try_tls(running, None, version=version))
        running.log.wait("tls_refused", reason="no-certificate")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_client_reads_the_alert_and_not_a_reset(
    strangers: dict[str, tuple[str, Identity]], version: ssl.TLSVersion
) -> None:
    """Twenty times in a row: what was sent behind the certificate must not destroy the alert."""
    _, expired = strangers["expired"]
    with serving(mutual()) as running:
        for _ in range(20):
            assert "CERTIFICATE_EXPIRED" in str(try_tls(running, expired, version=version))


def test_nothing_the_client_sent_is_served_when_it_was_refused() -> None:
    stranger = issue("board-1", pki().foreign_ca, purposes=CLIENT_AUTH)
    with serving(mutual()) as running:
        with running.connect_tls(stranger, version=TLS_1_3) as tls:
            tls.sendall(get())  # in TLS 1.3 the client believes to be connected already
            with pytest.raises(ssl.SSLError):
                Reader(tls).answer()
        running.log.wait("tls_refused")
        assert running.app.scopes == []


def test_plain_http_on_a_tls_port_is_refused_and_named() -> None:
    with serving(mutual()) as running:
        with running.connect() as connected:
            connected.sendall(get())
            connected.recv(100)
        assert running.log.wait("tls_refused")["reason"] == "not-tls"


def test_a_client_that_refuses_us_is_logged_with_its_alert() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem(pki().device_ca.certificate))
    with serving(mutual("none")) as running:
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(running.connect(), server_hostname="localhost")
        line = running.log.wait("tls_refused")
    assert line["reason"] == "refused-by-peer"
    assert "unknown ca" in line["detail"]


# Chains and contexts


def _sent_chain(context: SSL.Context, connected: socket.socket) -> list[x509.Certificate]:
    """Return what the server sent (Python's own client would show the chain it built from it)."""
    connected.settimeout(None)
    tls = SSL.Connection(context, connected)
    tls.set_connect_state()
    tls.do_handshake()
    return list(tls.get_peer_cert_chain(as_cryptography=True) or [])


@pytest.mark.parametrize(
    ("suites", "leaf", "sent"),
    [("ECDHE-RSA-AES128-GCM-SHA256", "rsa_leaf", 1), ("ALL", "p256_leaf", 2)],
)
def test_the_offered_suites_choose_the_leaf_and_its_own_chain(
    suites: str, leaf: str, sent: int
) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(suites.encode())
    with serving(mutual("none")) as running, running.connect() as connected:
        chain = _sent_chain(context, connected)
    expected = [getattr(pki(), leaf).certificate, pki().server_ca.certificate][:sent]
    assert chain == expected


def test_a_leaf_alone_stays_alone_even_where_its_issuer_is_a_client_anchor() -> None:
    anchors = [pki().device_ca.certificate, pki().server_ca.certificate]
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")
    listener = Listener("api", ("127.0.0.1", 0), pki().context("optional", client_anchors=anchors))
    with serving(listener) as running, running.connect() as connected:
        assert _sent_chain(context, connected) == [pki().rsa_leaf.certificate]


def test_a_key_that_does_not_belong_to_its_leaf_is_an_error() -> None:
    chains = [([pki().p256_leaf.certificate], pki().device.key)]
    with pytest.raises(ValueError, match="does not belong"):
        build_context(chains=chains, client_anchors=[], client_certificate="none")


@pytest.mark.parametrize("requirement", ["required", "optional"])
def test_verifying_clients_without_an_anchor_is_an_error(requirement: Any) -> None:
    with pytest.raises(ValueError, match="anchor"):
        pki().context(requirement, client_anchors=[])


def test_a_context_is_swapped_without_dropping_open_connections() -> None:
    renewed = issue("renewed", pki().server_ca, purposes=SERVER_AUTH)
    chains = [([renewed.certificate, pki().server_ca.certificate], renewed.key)]
    with serving(mutual()) as running, running.connect_tls(pki().device) as before:
        running.call(running.listener.swap_context, pki().context(chains=chains))
        with running.connect_tls(pki().device) as after:
            for tls, expected in ((before, pki().p256_leaf), (after, renewed)):
                tls.sendall(get())
                assert Reader(tls).answer().status == 200
                served = tls.getpeercert(binary_form=True)
                assert served is not None
                assert x509.load_der_x509_certificate(served) == expected.certificate


def test_a_plain_listener_has_no_context_to_swap() -> None:
    with serving(plain()) as running, pytest.raises(ValueError, match="plain"):
        running.listener.swap_context(pki().context())
