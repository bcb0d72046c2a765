"""The connection's part of an ASGI scope: addresses and the TLS extension."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from handfast.gateway.server.info import ConnectionInfo
from handfast.gateway.server.tls import SUITES
from handfast.gateway.server.transport import TlsTransport, Transport

# RFC 8446 4.2.1 and RFC 5246 E.1, as they go over the wire.
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def connection_scope(
    listener: dict[str, Any], transport: Transport, info: ConnectionInfo
) -> dict[str, Any]:
    """Return what every scope of this connection has; ``listener`` is what the listener knows."""
    host, _, port = info.address.rpartition(":")
    extensions: dict[str, Any] = {"handfast": {"listener": info.listener, "peer": info}}
    if isinstance(transport, TlsTransport):
        extensions["tls"] = tls_extension(transport.tls)
    return {
        **listener,
        "client": (host.strip("[]"), int(port)) if port.isdigit() else None,
        "extensions": extensions,
    }


def tls_extension(connection: SSL.Connection) -> dict[str, Any]:
    """Return ``scope["extensions"]["tls"]`` of an established connection.

    Source: ASGI TLS extension 0.2. ``client_cert_error`` is always ``None``: a certificate that
    does not verify never gets as far as a request.
    """
    client = connection.get_peer_certificate(as_cryptography=True)
    # On the server's side OpenSSL keeps the leaf apart from what was sent with it.
    others = connection.get_peer_cert_chain(as_cryptography=True) or []
    chain = [client, *(c for c in others if c != client)] if client is not None else []
    server = connection.get_certificate(as_cryptography=True)
    return {
        "server_cert": None if server is None else _pem(server),
        "client_cert_chain": [_pem(certificate) for certificate in chain],
        "client_cert_name": None if client is None else client.subject.rfc4514_string(),
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.get_protocol_version_name()),
        "cipher_suite": SUITES.get(connection.get_cipher_name() or ""),
    }


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
