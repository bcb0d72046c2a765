"""A TLS server for boards, and what a listener on the wire learns from their handshakes."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SERVER_NAME = "server.test"
NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
# A board's clock for certificates that are valid as long as these are.
WITHIN_LIFE = int((NOT_BEFORE + datetime.timedelta(days=30)).timestamp())
_TIMEOUT_S = 10
_HANDSHAKE, _CLIENT_HELLO, _CERTIFICATE_VERIFY, _CLIENT_KEY_EXCHANGE = 22, 1, 15, 16
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the board's clock is not the host's


@dataclass(frozen=True, slots=True)
class Credential:
    """A self-signed certificate with its key, good as anchor, server and client."""

    key: PrivateKey
    certificate: x509.Certificate

    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_der(self) -> bytes:
        return self._key_in(serialization.Encoding.DER)

    def write(self, folder: Path) -> Path:
        """Write key and certificate where the ssl module takes them from."""
        path = folder / "credential.pem"
        path.write_bytes(self._key_in(serialization.Encoding.PEM) + self.pem())
        return path

    def _key_in(self, encoding: serialization.Encoding) -> bytes:
        sec1, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        return self.key.private_bytes(encoding, sec1, plain)


def self_signed(key: PrivateKey | None = None) -> Credential:
    """Make one, by default with a key of P-256."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Credential(key, certificate)


# ---- What stands on the wire ----


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a TLS 1.2 client drew at random for one handshake; all of it is sent in the clear.

    ``r`` of its signature is the nonce's public half: two signatures with one ``r`` had one nonce,
    and give the private key away.
    """

    random: bytes
    ecdhe_key: bytes
    r: int


def drawn(sent: bytes) -> Drawn:
    """Read a client's side of a TLS 1.2 handshake (RFC 5246 section 7.4)."""
    messages = dict(_messages(sent))
    hello, exchange = messages[_CLIENT_HELLO], messages[_CLIENT_KEY_EXCHANGE]
    r, _s = decode_dss_signature(messages[_CERTIFICATE_VERIFY][4:])
    # The version comes before the random's 32 octets, whose first four may hold the time.
    return Drawn(random=hello[6:34], ecdhe_key=exchange[1:], r=r)


def _messages(sent: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each handshake message up to the first that is encrypted."""
    clear = b""
    while sent and sent[0] == _HANDSHAKE:
        end = 5 + int.from_bytes(sent[3:5], "big")
        clear, sent = clear + sent[5:end], sent[end:]
    while clear:
        end = 4 + int.from_bytes(clear[1:4], "big")
        yield clear[0], clear[4:end]
        clear = clear[end:]


@dataclass(slots=True)
class Recorder:
    """A TLS 1.2 server that asks for ``credential`` and keeps what its clients sent, in order."""

    credential: Credential
    port: int
    handshakes: list[Drawn] = field(default_factory=list)

    def serve(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        sent = b""
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
            received = connection.recv(4096)
            if not received:
                raise ConnectionAbortedError("the client hung up during the handshake")
            sent += received
            incoming.write(received)
        self.handshakes.append(drawn(sent))
        connection.sendall(outgoing.read())
        connection.recv(1)  # until the client has closed


@contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """Run a :class:`Recorder` on loopback."""
    credential = self_signed()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(credential.write(folder))
    context.load_verify_locations(cadata=credential.der())
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    with socket.create_server(("127.0.0.1", 0)) as listener:
        recorder = Recorder(credential, listener.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(_TIMEOUT_S)
                with connection:
                    recorder.serve(connection, context)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(_TIMEOUT_S)
