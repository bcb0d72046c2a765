"""The seam between a connection and its socket: the same few calls, in the clear or over TLS.

Sockets do not block. A call that cannot go on raises :data:`WantRead` or :data:`WantWrite`
(pyOpenSSL's own exceptions, so that the TLS path needs no translation), and is made again when
the socket is ready for that. :data:`Lost` means that the connection is gone or cannot be trusted.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Protocol

from cryptography import x509
from OpenSSL import SSL

from handfast.gateway.server.refusals import Refusal, handshake_refusal
from handfast.gateway.server.session import has_extended_master_secret, was_resumed
from handfast.gateway.server.tls import Verdict, is_resumable

WantRead = SSL.WantReadError
WantWrite = SSL.WantWriteError
Lost = (SSL.Error, OSError)

# A whole TLS record fits, so nothing stays behind in OpenSSL's buffer where epoll cannot see it.
READ_SIZE = 32 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HandshakeRefused(Exception):
    """The handshake failed; an alert for the peer, if there is one, is on its way."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Transport(Protocol):
    """A connected, non-blocking byte stream."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""

    def handshake(self) -> None:
        """Go on with the handshake; raises HandshakeRefused when it failed."""

    def receive(self) -> bytes:
        """Return up to READ_SIZE bytes, ``b""`` when the peer will send no more."""

    def send(self, data: bytearray) -> int:
        """Send a beginning of ``data``, return its length."""

    def pending(self) -> bool:
        """Tell whether bytes wait that the socket's readiness does not show."""

    def end(self) -> None:
        """Tell the peer that nothing more comes; what was sent still arrives."""

    def discard(self) -> bool:
        """Throw away what arrived; False once the peer has closed."""

    def close(self, *, reset: bool = False) -> None:
        """Close the socket; ``reset`` drops what the kernel has not delivered."""

    def peer_certificate(self) -> x509.Certificate | None:
        """Return the certificate whose key the peer proved to hold."""

    def resumed(self) -> bool:
        """Tell whether the peer proved it in an earlier connection, whose session this has."""


class PlainTransport:
    """A socket as it is."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def fileno(self) -> int:
        """See :class:`Transport`."""
        return self._socket.fileno()

    def handshake(self) -> None:
        """Nothing to do in the clear."""

    def receive(self) -> bytes:
        """See :class:`Transport`."""
        try:
            return self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            raise WantRead from None

    def send(self, data: bytearray) -> int:
        """See :class:`Transport`."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            raise WantWrite from None

    def pending(self) -> bool:
        """Never: the kernel holds all that waits."""
        return False

    def end(self) -> None:
        """See :class:`Transport`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """See :class:`Transport`."""
        try:
            return bool(self._socket.recv(READ_SIZE))
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False

    def close(self, *, reset: bool = False) -> None:
        """See :class:`Transport`."""
        if reset:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._socket.close()

    def peer_certificate(self) -> x509.Certificate | None:
        """Nobody proves anything in the clear."""
        return None

    def resumed(self) -> bool:
        """There are no sessions in the clear."""
        return False


class TlsTransport(PlainTransport):
    """OpenSSL directly on the socket: no memory BIO, no copy, no asyncio transport (FACTS 5)."""

    __slots__ = ("_established", "_must_be_bound", "_verdict", "tls")

    def __init__(self, connected: socket.socket, context: SSL.Context) -> None:
        super().__init__(connected)
        self.tls = SSL.Connection(context, connected)
        self._verdict = Verdict()
        self._established = False
        self._must_be_bound = is_resumable(context)
        self.tls.set_app_data(self._verdict)
        self.tls.set_accept_state()

    def handshake(self) -> None:
        """See :class:`Transport`."""
        try:
            self.tls.do_handshake()
        except (WantRead, WantWrite):
            raise
        except SSL.Error as error:
            raise HandshakeRefused(self._verdict.refusal or handshake_refusal(error)) from error
        if self._must_be_bound and not has_extended_master_secret(self.tls):
            # Without it a session can be made one that two handshakes share (RFC 7627 section 1).
            raise HandshakeRefused(Refusal("no-extended-master-secret"))
        self._established = True

    def receive(self) -> bytes:
        """See :class:`Transport`."""
        try:
            return self.tls.recv(READ_SIZE)
        except SSL.ZeroReturnError:
            return b""

    def send(self, data: bytearray) -> int:
        """See :class:`Transport`."""
        return self.tls.send(data)

    def pending(self) -> bool:
        """See :class:`Transport`."""
        return self.tls.pending() > 0

    def end(self) -> None:
        """Send close_notify (RFC 8446 6.1), then the FIN behind it."""
        if self._established:
            # After a fatal alert OpenSSL has nothing more to say.
            with contextlib.suppress(SSL.Error):
                self.tls.shutdown()
        super().end()

    def peer_certificate(self) -> x509.Certificate | None:
        """See :class:`Transport`."""
        return self.tls.get_peer_certificate(as_cryptography=True)

    def resumed(self) -> bool:
        """See :class:`Transport`."""
        return was_resumed(self.tls)
