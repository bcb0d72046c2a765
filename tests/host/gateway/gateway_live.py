"""A gateway in a process of its own, and clients that reach it over real TLS."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from gateway_kit import Requester

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.state import StateDir

T = TypeVar("T")
PASSPHRASE = b"correct horse battery staple"
DEADLINE_S = 20.0


def wait_for(find: Callable[[], T | None]) -> T:
    """Return what ``find`` finds, asked again until the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := find()) is None:
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)
    return found


def copy_of(ca_folder: StateDir, root: Path) -> StateDir:
    """Return a state folder with the same CAs and nothing else."""
    shutil.copytree(ca_folder.ca, root / "ca")
    root.chmod(0o700)
    return StateDir(root)


class Identity:
    """A key with its certificate, in the file that TLS clients load."""

    def __init__(self, key: Requester, certificate: x509.Certificate, folder: Path) -> None:
        self.key = key
        self.certificate = certificate
        self.file = folder / f"{certificate.serial_number:x}.pem"
        pem = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.file.write_bytes(pem + certificate.public_bytes(Encoding.PEM))


class Live(GatewayProcess):
    """A gateway process with short cuts for what tests do to it."""

    def __init__(self, state: StateDir, options: GatewayOptions, folder: Path) -> None:
        super().__init__(state, PASSPHRASE, options)
        self.state = state
        self.folder = folder

    def client(
        self, listener: str, identity: Identity | None = None, *, anchor: str = "root"
    ) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.state.ca_certificate_pem(anchor))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if identity is not None:
            context.load_cert_chain(identity.file)
        return httpx.Client(
            verify=context, base_url=self.urls[listener], timeout=DEADLINE_S, trust_env=False
        )

    def enrol(
        self,
        device_id: str,
        key: Requester,
        *,
        token: str | None = None,
        identity: Identity | None = None,
        operation: str = "simpleenroll",
    ) -> httpx.Response:
        auth = None if token is None else httpx.BasicAuth(device_id, token)
        with self.client("enrol", identity) as client:
            return client.post(
                f"/.well-known/est/{operation}",
                content=base64.b64encode(key.csr_der()),
                headers={"content-type": "application/pkcs10"},
                auth=auth,
            )

    def identity(self, key: Requester, answer: httpx.Response) -> Identity:
        assert answer.status_code == 200, answer.text
        (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))
        return Identity(key, leaf, self.folder)

    def enrolled(self, device_id: str) -> Identity:
        """Register a device and enrol it with a token."""
        self.admin.add_device(device_id)
        token = self.admin.create_token(device_id, lifetime_s=600)["token"]
        key = Requester.new()
        return self.identity(key, self.enrol(device_id, key, token=token))

    def factory_identity(self, device_id: str) -> Identity:
        key = Requester.new()
        der = self.admin.issue_idevid(device_id, key.csr_der())
        return Identity(key, x509.load_der_x509_certificate(der), self.folder)

    def re_enrolled(self, device_id: str, identity: Identity) -> Identity:
        key = Requester.new()
        answer = self.enrol(device_id, key, identity=identity, operation="simplereenroll")
        return self.identity(key, answer)

    def ping(self, identity: Identity) -> httpx.Response:
        with self.client("api", identity) as client:
            return client.get("/v1/ping")

    def log(self) -> list[dict[str, Any]]:
        whole = self.state.gateway_log.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def logged(self, **fields: object) -> dict[str, Any]:
        """Wait for a log line that has these fields."""

        def find() -> dict[str, Any] | None:
            lines = (line for line in self.log() if fields.items() <= line.items())
            return next(lines, None)

        return wait_for(find)
