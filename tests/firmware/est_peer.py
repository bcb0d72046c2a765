"""An EST server of a few lines, honest by default, that a test can make lie in one thing."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from device_pki import SERVER_AUTH, Plan, rsa_key

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
HOUR = timedelta(hours=1)
CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
P256_WANTED = bytes.fromhex(
    "3021301506072a8648ce3d0201310a06082a8648ce3d03010706082a8648ce3d040302"
)


def ca(name: str, issuer: str = "root", **changes: object) -> Plan:
    """Return the plan of a CA of that name; its key goes by its name."""
    now = datetime.now(UTC)
    usual = {"ca": True, "not_before": now - HOUR, "not_after": now + HOUR}
    return Plan(name, rsa_key(name), issuer, rsa_key(issuer), **{**usual, **changes})


def root_ca(name: str = "root") -> x509.Certificate:
    return ca(name, name).make()


def server_ca(**changes: object) -> x509.Certificate:
    return ca("server", **{"eku": [SERVER_AUTH], **changes}).make()


def device_ca() -> x509.Certificate:
    return ca("device", eku=[CLIENT_AUTH]).make()


def tls_context(folder: Path, issuer: str = "server", key: str = "") -> ssl.SSLContext:
    """Return the context of a server for 127.0.0.1 whose leaf that CA, or its key, has signed."""
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = Plan(
        "leaf",
        rsa_key("leaf"),
        issuer,
        rsa_key(key or issuer),
        eku=[SERVER_AUTH],
        extra=[(names, False)],
        not_before=now - HOUR,
        not_after=now + HOUR,
    ).make()
    file = folder / f"leaf-of-{issuer}.pem"
    private = rsa_key("leaf").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + leaf.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def response(
    body: bytes = b"", kind: str = CERTS_ONLY, status: str = "200 OK", headers: str = ""
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: {kind}\r\n{headers}"
    return head.encode() + b"\r\n" + body


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    return response(base64.encodebytes(certs_only_der(certificates)))


def certs_only_der(certificates: Sequence[x509.Certificate]) -> bytes:
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)


def csrattrs(der: bytes = P256_WANTED) -> bytes:
    return response(base64.b64encode(der), "application/csrattrs")


def issue(body: bytes, **changes: object) -> x509.Certificate:
    """Certify the key of a base64 CSR."""
    request = x509.load_der_x509_csr(base64.b64decode(body))
    now = datetime.now(UTC)
    leaf = {
        "subject": "d",
        "key": request,  # has a public_key(), which is all that is asked of it
        "issuer": "device",
        "issuer_key": rsa_key("device"),
        "eku": [CLIENT_AUTH],
        "not_before": now - HOUR,
        "not_after": now + HOUR,
    }
    return Plan(**{**leaf, **changes}).make()


Enrol = Callable[[bytes], bytes]


def enrol_with(*before: x509.Certificate, **changes: object) -> Enrol:
    return lambda body: certs_only([*before, issue(body, **changes)])


@dataclass
class EstPeer:
    """Answers by the last part of the path; ``heard`` are the request lines and headers it got."""

    cacerts: bytes = b""
    csrattrs: bytes = field(default_factory=csrattrs)
    enrol: Enrol = field(default_factory=enrol_with)
    heard: list[str] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        while request := self._read(connection):
            head, body = request
            operation = head.split(" ")[1].rpartition("/")[2]
            if operation in ("cacerts", "csrattrs"):
                connection.sendall(getattr(self, operation))
            else:
                connection.sendall(self.enrol(body))

    def _read(self, connection: socket.socket) -> tuple[str, bytes] | None:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (piece := connection.recv(4096)):
                return None
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        self.heard.append(head.decode())
        length = 0
        for line in head.decode().splitlines():
            name, _, value = line.partition(":")
            length = int(value) if name.lower() == "content-length" else length
        while len(body) < length:
            body += connection.recv(4096)
        return head.decode(), body

    def operations(self) -> list[str]:
        return [head.split(" ")[1].rpartition("/")[2] for head in self.heard]
