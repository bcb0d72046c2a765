"""A client's certificate and key on their way into the ``ssl`` module."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from pathlib import Path


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes, *, scratch: Path) -> None:
    """Have a client present a certificate (DER) with a key (PKCS#8 in DER), a pair or not.

    Args:
        context: of the client.
        certificate: sent alone.
        key: not looked at before OpenSSL does.
        scratch: the folder that the key passes through, since ``ssl`` reads files only: one of the
            demo's, never the system's, where it could stay for ever.
    """
    handle, name = tempfile.mkstemp(dir=scratch)  # 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_pem("PRIVATE KEY", key))
            file.write(_pem("CERTIFICATE", certificate))
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()


def _pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"
