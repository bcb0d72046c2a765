"""What the server's chain costs a board: one handshake with GET, for each kind of chain."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from benchmarks.callgrind import instructions

_SCRIPT = Path(__file__).parent / "device_scripts" / "handshake.py"
_LIFE = timedelta(days=1)
_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
# Name, then the kinds of key from the board's anchor down to the server's leaf.
CHAINS: Mapping[str, tuple[str, ...]] = {
    "RSA-2048 CA, RSA-2048 leaf (the default)": ("rsa2048", "rsa2048"),
    "RSA-3072 CA, RSA-2048 leaf": ("rsa3072", "rsa2048"),
    "RSA-4096 CA, RSA-2048 leaf": ("rsa4096", "rsa2048"),
    "RSA-2048 CA, P-256 leaf": ("rsa2048", "p256"),
    "RSA-4096 CA, P-256 leaf": ("rsa4096", "p256"),
    "RSA-4096 root, RSA-2048 CA, P-256 leaf": ("rsa4096", "rsa2048", "p256"),
    "all P-256": ("p256", "p256"),
    "P-256 root, P-256 CA, P-256 leaf": ("p256", "p256", "p256"),
}


@dataclass(frozen=True, slots=True)
class _Issued:
    key: Key
    certificate: x509.Certificate


def handshake_costs(
    interpreter: Path, environment: Mapping[str, str], folder: Path
) -> dict[str, int]:
    """Return, per chain, the instructions of one first handshake with GET on a board."""
    device = _issue("p256", "device", None, ca=False)
    (folder / "leaf.der").write_bytes(device.certificate.public_bytes(Encoding.DER))
    (folder / "key.der").write_bytes(
        device.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return {
        name: _cost(kinds, interpreter, environment, folder, device.certificate)
        for name, kinds in CHAINS.items()
    }


def _cost(
    kinds: tuple[str, ...],
    interpreter: Path,
    environment: Mapping[str, str],
    folder: Path,
    client: x509.Certificate,
) -> int:
    chain: list[_Issued] = []
    for depth, kind in enumerate(kinds):
        issuer = chain[-1] if chain else None
        chain.append(_issue(kind, f"depth {depth}", issuer, ca=depth < len(kinds) - 1))
    (folder / "anchor.der").write_bytes(chain[0].certificate.public_bytes(Encoding.DER))

    def run(host: str, port: int) -> int:
        command = [interpreter, _SCRIPT, host, str(port), "anchor.der", "leaf.der", "key.der"]
        return instructions(command, environment=environment, folder=folder)

    with _serving(chain[:0:-1], client, folder) as port:
        return run("127.0.0.1", port) - run("none", 0)


def _new_key(kind: str) -> Key:
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def _issue(kind: str, name: str, issuer: _Issued | None, *, ca: bool) -> _Issued:
    key, now = _new_key(kind), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if not ca:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return _Issued(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


@contextmanager
def _serving(chain: list[_Issued], client: x509.Certificate, folder: Path) -> Iterator[int]:
    """Answer every request of a client that holds ``client``, over TLS 1.2; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=client.public_bytes(Encoding.DER))
    pem = folder / "server.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(
        chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + b"".join(issued.certificate.public_bytes(Encoding.PEM) for issued in chain)
    )
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = threading.Thread(target=_serve, args=(listener, context), daemon=True)
        served.start()
        yield listener.getsockname()[1]


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:  # closed: the measurement is done
            return
        with raw, context.wrap_socket(raw, server_side=True) as stream:
            stream.recv(1024)
            stream.sendall(_ANSWER)
