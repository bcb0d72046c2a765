"""A client for one request at a time, each over a TCP connection of its own."""

from __future__ import annotations

import base64
import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from handfast.errors import CheckFailed
from handfast.lab.demo.intruders.attempt import Answer, Attempt, Credential, Names, Tls
from handfast.lab.demo.key_pair import load_pair
from handfast.lab.problem import slug_of

_TIMEOUT_S = 10.0
_LARGEST_ANSWER = 64 * 1024
_MOST_CONTEXTS = 128
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Met:
    """What came back over one connection: bytes, the error that ended them, or both.

    ``peer`` is ``host:port`` of our own end.
    """

    peer: str
    received: bytes
    error: str
    resumed: bool = False


class Client:
    """Makes attempts, and remembers contexts and TLS sessions; for any number of threads.

    Args:
        urls: of the listeners, by name.
        trust: the gateway's root (PEM): also an intruder wants to know whom it talks to.
        source: the loopback address to call from.
        scratch: the folder that private keys pass through, see :func:`load_pair`.
    """

    def __init__(self, urls: Mapping[str, str], trust: str, *, source: str, scratch: Path) -> None:
        self._urls = urls
        self._trust = trust
        self._source = source
        self._scratch = scratch
        self._ports: set[int] = set()
        self._lock = threading.Lock()
        self._contexts: dict[tuple[str, Tls], ssl.SSLContext] = {}
        self._sessions: dict[str, tuple[ssl.SSLContext, ssl.SSLSession]] = {}

    def make(self, attempt: Attempt) -> Answer:
        """Make one attempt; whatever it meets is the answer, nothing is raised."""
        return answer_to(attempt, self._exchange(attempt))

    def fetch(self, request: Attempt) -> bytes:
        """Make a request that must succeed; return the body of what came.

        Raises:
            CheckFailed: it did not.
        """
        met = self._exchange(request)
        answer = answer_to(request, met)
        if answer.status != HTTPStatus.OK:
            raise CheckFailed(f"{request.method} {request.path} was not answered: {answer}")
        return _parsed(request.method, met.received)[1]

    def _exchange(self, attempt: Attempt) -> Met:
        peer, error, received, resumed = "", "", bytearray(), False
        try:
            with self._bound_socket() as raw:
                peer = "{}:{}".format(*raw.getsockname())
                with self._connected(raw, attempt) as tls:
                    resumed = bool(tls.session_reused)
                    tls.sendall(request_bytes(attempt))
                    _receive(tls, received)
                    self._keep_session(attempt, tls)
        except OSError as failed:
            error = _short(failed)
        return Met(peer, bytes(received), error, resumed)

    def _bound_socket(self) -> socket.socket:
        """Return a socket whose address no earlier attempt had: it is how the log tells them."""
        while True:
            raw = socket.socket()
            raw.settimeout(_TIMEOUT_S)
            raw.bind((self._source, 0))
            port = raw.getsockname()[1]
            if port not in self._ports:
                self._ports.add(port)
                return raw
            raw.close()

    def _connected(self, raw: socket.socket, attempt: Attempt) -> ssl.SSLSocket:
        to = urlsplit(self._urls[attempt.listener])
        raw.connect((to.hostname, to.port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if attempt.resumes:
            context, session = self._kept_session(attempt.resumes)
        else:
            context, session = self._context(attempt.credential, attempt.tls), None
        return context.wrap_socket(raw, server_hostname=to.hostname, session=session)

    def _keep_session(self, attempt: Attempt, tls: ssl.SSLSocket) -> None:
        if attempt.keeps and tls.session is not None:
            self._sessions[attempt.keeps] = (tls.context, tls.session)

    def _kept_session(self, name: str) -> tuple[ssl.SSLContext, ssl.SSLSession]:
        try:
            return self._sessions[name]
        except KeyError:
            raise OSError("there is no session to resume") from None

    def _context(self, credential: Credential | None, version: Tls) -> ssl.SSLContext:
        name = (credential.name if credential else "", version)
        with self._lock:
            if name not in self._contexts:
                if len(self._contexts) >= _MOST_CONTEXTS:
                    del self._contexts[next(iter(self._contexts))]
                self._contexts[name] = self._new_context(credential, version)
            return self._contexts[name]

    def _new_context(self, credential: Credential | None, version: Tls) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = _VERSIONS[version]
        context.load_verify_locations(cadata=self._trust)
        if credential is not None:
            load_pair(context, credential.certificate, credential.key, scratch=self._scratch)
        return context


def request_bytes(attempt: Attempt) -> bytes:
    """Return what an attempt sends once it is connected."""
    lines = [f"{attempt.method} {attempt.path} HTTP/1.1", "host: localhost", "connection: close"]
    lines += [f"{name}: {value}" for name, value in attempt.headers]
    if attempt.method == "POST":
        lines.append(f"content-length: {len(attempt.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + attempt.body


def _receive(tls: ssl.SSLSocket, received: bytearray) -> None:
    """Add what comes until the end; what came stays if the end is an error."""
    while len(received) < _LARGEST_ANSWER and (data := tls.recv(_LARGEST_ANSWER)):
        received += data


def answer_to(attempt: Attempt, met: Met) -> Answer:
    """Read what came back."""
    status, body, problem, issued, error = None, b"", "", None, met.error
    if met.received:
        try:
            status, body = _parsed(attempt.method, met.received)
        except (HTTPException, OSError):
            error = "what came is no HTTP answer"
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        problem = slug_of(body) or "not a problem document"
    elif status is not None and attempt.path.endswith("enroll"):
        issued = _issued(body, attempt.body)
    error = error or ("" if status else "closed without an answer")
    return Answer(
        attempt.number, met.peer, status, problem, error, met.resumed, issued, time.time()
    )


class _Received:
    """What ``http.client`` reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._file


def _parsed(method: str, received: bytes) -> tuple[int, bytes]:
    response = HTTPResponse(_Received(received), method=method)  # type: ignore[arg-type]
    response.begin()
    return response.status, response.read()


def _issued(body: bytes, csr: bytes) -> Names:
    """Return whom the one certificate in an EST answer names, if it is for the request's key."""
    try:
        (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
        request = x509.load_der_x509_csr(base64.b64decode(csr))
    except ValueError:
        return Names("no certificate", ())
    if certificate.public_key() != request.public_key():
        return Names("a certificate for another key", ())
    return names_of(certificate)


def names_of(certificate: x509.Certificate) -> Names:
    """Return whom a certificate names."""
    extensions = certificate.extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    listed = tuple(f"{type(name).__name__}:{name.value}" for name in names)
    return Names(certificate.subject.rfc4514_string(), listed)


def _short(error: BaseException) -> str:
    """Return what OpenSSL says of the alert, without its code names and line numbers."""
    text = str(error).split("(_ssl")[0].partition("]")[2] or str(error)
    return text.strip() or type(error).__name__
