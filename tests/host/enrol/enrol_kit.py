"""What the enrolment tests share: the command line, keys, requests, and a use of what came out."""

from __future__ import annotations

import contextlib
import io
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from handfast import cli
from handfast.lab.gateway_process import GatewayProcess
from handfast.state import StateDir

Handfast = Callable[..., "subprocess.CompletedProcess[str]"]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def run_handfast(
    *arguments: object, folder: Path, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run the command line within this process (a start of Python takes a second)."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"HANDFAST_DIR": str(folder)}),
        mock.patch.object(sys, "argv", ["handfast", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = None
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Key, encoding: Encoding = Encoding.PEM) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(encoding)


_CA_KEY = new_key()


def certify(key: ec.EllipticCurvePublicKey, *, padding: int = 0) -> bytes:
    """Return a certificate of about the size of the gateway's (DER)."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mkr" + "x" * padding)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.sign(_CA_KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def ping(
    state: StateDir, gateway: GatewayProcess, key: Key, leaf: x509.Certificate, folder: Path
) -> Any:
    """Call the API with the certificate, as its owner would."""
    file = folder / "identity.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + leaf.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(cafile=state.ca_certificate_pem("root"))
    context.load_cert_chain(file)
    with httpx.Client(verify=context, base_url=gateway.urls["api"], trust_env=False) as client:
        answer = client.get("/v1/ping")
    assert answer.status_code == 200, answer.text
    return answer.json()


def known(gateway: GatewayProcess) -> set[str]:
    return {device["device_id"] for device in gateway.admin.devices()}
