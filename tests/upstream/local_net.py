"""A small Internet on this machine: what tests of net_hosted and net_inet ask micropython.org for.

Those tests need a peer and no more, but name one on the Internet. Here their names and ports are
replaced by peers of this process; what a test then does is upstream's, to the letter.
"""

from __future__ import annotations

import functools
import random
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.serialization import Encoding

from support_server_pki import SERVER_AUTH, Identity, issue

_HANDSHAKE_S = 60.0  # an emulated RP2040 takes ten seconds and more on a busy machine
# Where upstream's tests listen, and how many ports from there on.
_LISTENED = {8000: 4, 8080: 1, 8123: 1}
# Below the ports that the kernel gives to clients by itself (ip(7), ip_local_port_range).
_FREE_FROM, _FREE_TO = 20000, 32000
_NOWHERE = ("192.0.2.1", "1.1.1.1")
# `url` and `site` are the variables in which tests of net_inet have the names of their servers.
_PEER = re.compile(
    r"(?P<call>getaddrinfo|open_connection)\("
    r'(?:"(?P<name>micropython\.org|test\.mosquitto\.org|192\.0\.2\.1|1\.1\.1\.1)"|url|site)'
    r", (?P<port>\d+)"
)
# As micropython.org answered when the tests were written, by asyncio_tcp_read_headers.py.exp.
_PAGE = (
    b"HTTP/1.1 200 OK\r\nServer: local\r\nDate: Fri, 01 Jan 2021 00:00:00 GMT\r\n"
    b"Content-Type: text/html\r\nContent-Length: 54\r\nConnection: close\r\n"
    b'Vary: Accept-Encoding\r\nETag: "54306c85-36"\r\n'
    b"Strict-Transport-Security: max-age=15768000\r\nAccept-Ranges: bytes\r\n\r\n" + 54 * b"."
)
_NO_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class LocalNet:
    """Where what a test asks for is to be found here.

    Attributes:
        host: this machine's address, as the board reaches it.
        own: this machine's address, as it reaches itself.
        plain: the port of an HTTP server.
        tls: the same over TLS, with a leaf and the CA above it.
        nowhere: a port whose connections are never answered.
        ports: upstream's listening ports → free ones of this machine.
    """

    host: str
    own: str
    plain: int
    tls: int
    nowhere: int
    ports: Mapping[int, int] = field(default_factory=dict)

    def at_home(self) -> LocalNet:
        """Return it for programs that run on this machine."""
        return replace(self, host=self.own)

    def localised(self, text: str) -> str:
        """Return a test's text, or what it is to print, with the names and ports of here."""
        return _replaced(_PEER.sub(self._peer, text), self.ports)

    def restored(self, printed: str) -> str:
        """Return what a localised test printed, with upstream's ports again."""
        return _replaced(printed, {here: theirs for theirs, here in self.ports.items()})

    def _peer(self, match: re.Match[str]) -> str:
        if match["name"] in _NOWHERE:
            port = self.nowhere
        else:
            port = self.plain if match["port"] == "80" else self.tls
        return f'{match["call"]}("{self.host}", {port}'


def _replaced(text: str, numbers: Mapping[int, int]) -> str:
    if not numbers:
        return text
    pattern = "|".join(str(number) for number in numbers)
    return re.sub(rf"\b({pattern})\b", lambda match: str(numbers[int(match[1])]), text)


@contextmanager
def local_net(host: str) -> Iterator[LocalNet]:
    """Run the peers of one test.

    Args:
        host: this machine's address, as the board reaches it.
    """
    # An emulator's network has an address for this machine's loopback that is none of its own.
    own = host if _is_own(host) else "127.0.0.1"
    with ExitStack() as stack:
        yield LocalNet(
            host,
            own,
            plain=stack.enter_context(_served(own, _Http)),
            tls=stack.enter_context(_served(own, _Https)),
            nowhere=stack.enter_context(_nowhere(own)),
            ports={theirs: _free(number) for theirs, number in _LISTENED.items()},
        )


class _Http(socketserver.BaseRequestHandler):
    """Says nothing until it is asked; some tests ask it for TLS and are to be told 400."""

    def handle(self) -> None:
        with suppress(OSError):
            asked = b""
            while asked[:4] == b"GET "[: len(asked)] and not asked.endswith(b"\r\n\r\n"):
                if not (piece := self.request.recv(4096)):
                    return
                asked += piece
            self.request.sendall(_PAGE if asked.startswith(b"GET ") else _NO_REQUEST)
            self.end()
            while self.request.recv(4096):  # else a reset overtakes the answer
                pass

    def end(self) -> None:
        self.request.shutdown(socket.SHUT_WR)


class _Https(_Http):
    def setup(self) -> None:
        self.request.settimeout(_HANDSHAKE_S)
        try:
            self.request = _tls_context().wrap_socket(self.request, server_side=True)
        except OSError:  # a client that refuses the certificate, or hangs up
            self.request.close()

    def end(self) -> None:
        self.request = self.request.unwrap()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def _served(host: str, handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with _Server((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@functools.cache
def authority() -> Identity:
    """Return the CA of the peer that speaks TLS."""
    return issue("upstream CA", None, ca=True)


def authority_der() -> bytes:
    """Return its certificate, for a board."""
    return authority().certificate.public_bytes(Encoding.DER)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    # As a CA's it has no subject alternative names: the name of its subject is the one that counts.
    leaf = issue("micropython.org", authority(), ca=True, purposes=SERVER_AUTH)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # With the CA behind the leaf: one test counts the certificates that are looked at.
    context.load_cert_chain(replace(leaf, chain=(authority().certificate,)).file)
    return context


@contextmanager
def _nowhere(host: str) -> Iterator[int]:
    """A listener whose queue is full: the kernel drops what would connect (listen(2), backlog)."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, 0))
        listener.listen(0)
        stack.enter_context(socket.create_connection(listener.getsockname()))
        yield listener.getsockname()[1]


def _is_own(host: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
        return True


def _free(number: int) -> int:
    """Return the first of ``number`` ports in a row on which nobody listens, TCP or UDP."""
    for _ in range(1000):
        first = random.randrange(_FREE_FROM, _FREE_TO)  # noqa: S311 - no secret
        if all(_is_free(port) for port in range(first, first + number)):
            return first
    raise OSError(f"no {number} ports in a row are free")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - as the tests do
            except OSError:
                return False
    return True
