"""The EST client towards servers that refuse, lie, or are not the one that the root vouches for."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from enrol_kit import certify, csr, new_key

from handfast.errors import Refused, Unreachable
from handfast.est_client import EstRefused, simpleenroll
from handfast.pki.pkcs7 import certs_only

MEDIA_TYPE = "application/pkcs7-mime; smime-type=certs-only"
KEY = new_key()
REQUEST = csr(KEY, Encoding.DER)


class Server:
    """A TLS server that answers every POST as it is told, and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        key, now = new_key(), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(hours=1))
        san = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        certificate = builder.add_extension(san, critical=False).sign(key, hashes.SHA256())
        self.root = certificate.public_bytes(Encoding.DER)
        self.status, self.media_type, self.body = 200, MEDIA_TYPE, b""
        self.asked: list[tuple[str, str, str, bytes]] = []
        pem = folder / "server.pem"
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"https://localhost:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                kind, secret = self.headers["content-type"], self.headers["authorization"]
                server.asked.append((self.path, kind, secret, body))
                self.send_response(server.status)
                self.send_header("content-type", server.media_type)
                self.send_header("content-length", str(len(server.body)))
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    yield running
    running.close()


def envelope(*certificates: bytes) -> bytes:
    return base64.encodebytes(certs_only([x509.load_der_x509_certificate(c) for c in certificates]))


def ask(server: Server, root: bytes | None = None) -> x509.Certificate:
    return simpleenroll(
        server.url, REQUEST, device_id="meter", token="t0k", roots=[root or server.root]
    )


def test_the_request_is_spelled_as_the_rfc_has_it(server: Server) -> None:
    leaf = certify(KEY.public_key())
    server.body = envelope(leaf)
    assert ask(server).public_bytes(Encoding.DER) == leaf
    ((path, kind, secret, body),) = server.asked
    assert (path, kind) == ("/.well-known/est/simpleenroll", "application/pkcs10")
    assert secret == "Basic " + base64.b64encode(b"meter:t0k").decode()
    assert base64.b64decode(body) == REQUEST


@pytest.mark.parametrize(
    ("media_type", "body", "said"),
    [
        (MEDIA_TYPE, envelope(certify(new_key().public_key())), "one certificate for the key"),
        (MEDIA_TYPE, envelope(*(certify(KEY.public_key()) for _ in "ab")), "one certificate"),
        (MEDIA_TYPE, b"", "no certificate"),
        (MEDIA_TYPE, b"!!!", "no certificate"),
        (MEDIA_TYPE, base64.b64encode(b"hello"), "no certificate"),
        ("text/html", envelope(certify(KEY.public_key())), "media type is text/html"),
    ],
    ids=["other-key", "two", "nothing", "no-base64", "no-pkcs7", "media-type"],
)
def test_an_answer_that_is_not_one_certificate_for_the_key_is_refused(
    server: Server, media_type: str, body: bytes, said: str
) -> None:
    server.media_type, server.body = media_type, body
    with pytest.raises(Refused, match=said):
        ask(server)


@pytest.mark.parametrize(
    ("status", "body", "slug", "said"),
    [
        (403, {"type": "urn:handfast:error:key-reused", "detail": "It was."}, "key-reused", "It"),
        (401, {"title": "No."}, "", "No."),
        (400, ["a", "list"], "", "list"),
        (202, None, "", "status 202"),
        (301, None, "", "status 301"),
        (500, None, "", "status 500"),
    ],
)
def test_a_refusal_says_why(
    server: Server, status: int, body: object, slug: str, said: str
) -> None:
    server.status, server.body = status, b"" if body is None else json.dumps(body).encode()
    with pytest.raises(EstRefused, match=said) as caught:
        ask(server)
    assert (caught.value.slug, caught.value.status) == (slug, status)


def test_a_server_that_the_root_does_not_vouch_for_gets_no_token(
    server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Server(folder)
    other.close()
    with pytest.raises(Unreachable, match="cannot be used"):
        ask(server, other.root)
    assert server.asked == []


def test_nobody_there_is_unreachable(server: Server) -> None:
    server.close()
    with pytest.raises(Unreachable):
        ask(server)
