"""A place to listen: binds it safely, accepts within its caps, gives each socket a transport."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from OpenSSL import SSL

from handfast.gateway.server.bind import bind_tcp, bind_unix, unlink_unix
from handfast.gateway.server.connection import Connection
from handfast.gateway.server.cycle import ASGIApp
from handfast.gateway.server.info import ConnectionInfo
from handfast.gateway.server.limits import Limits
from handfast.gateway.server.shared import Log, Shared
from handfast.gateway.server.transport import PlainTransport, TlsTransport, Transport

Address = tuple[str, int] | Path | socket.socket

_BACKLOG = 1024
_ACCEPTS_AT_ONCE = 64
_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 1.0
# The machine is short of something for a while; another accept now would only spin.
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PEER_CREDENTIALS = struct.Struct("3i")
_REFUSALS_LOGGED_EVERY_S = 1.0


class Listener:
    """One listening address with one TLS context.

    Args:
        name: what the application knows it by.
        address: ``(host, port)`` with port 0 for any free one, the path of a Unix socket, or a
            bound socket. It is bound by :meth:`open`, at the latest when the server starts.
        context: from :func:`build_context`; ``None`` for plain HTTP.
        limits: bounds of every connection.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        context: SSL.Context | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or Limits()
        self._address = address
        self._context = context
        self._socket: socket.socket | None = None
        self._shared: Shared | None = None
        self._connections: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._accepting = False
        self._backoff_s = _FIRST_BACKOFF_S
        self._retry: asyncio.TimerHandle | None = None
        self._refusals = 0
        self._refusals_logged = 0.0
        self._on_empty: Callable[[], None] | None = None

    # What a caller does

    def open(self) -> None:
        """Bind, so that the port is known; :meth:`Server.start` accepts.

        Raises:
            EnvironmentProblem: the address is in use or not to be had.
        """
        if self._socket is not None:
            return
        if isinstance(self._address, socket.socket):
            self._socket = self._address
        elif isinstance(self._address, Path):
            self._socket = bind_unix(self._address)
        else:
            self._socket = bind_tcp(self.name, *self._address)
        self._socket.setblocking(False)

    @property
    def port(self) -> int:
        """The bound port; 0 for a Unix socket."""
        name = self._bound().getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    @property
    def url(self) -> str:
        """``https://host:port``, ``http://host:port`` or ``unix:path``."""
        bound = self._bound()
        if bound.family == socket.AF_UNIX:
            path = self._address if isinstance(self._address, Path) else bound.getsockname()
            return f"unix:{path}"
        host, port = bound.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"{self._scheme}://{shown}:{port}"

    @property
    def connections(self) -> frozenset[Connection]:
        """The open connections."""
        return frozenset(self._connections)

    def swap_context(self, context: SSL.Context) -> None:
        """Use another context for connections accepted from now on; open ones stay as they are."""
        if self._context is None:
            raise ValueError(f"the listener {self.name} is plain HTTP and has no context")
        self._context = context

    # What the server does

    def start(self, app: ASGIApp, log: Log, *, on_empty: Callable[[], None]) -> None:
        """Accept connections for ``app``; ``on_empty`` is told when the last one has closed."""
        self.open()
        bound = self._bound()
        bound.listen(_BACKLOG)
        is_unix = bound.family == socket.AF_UNIX
        server = (bound.getsockname(), None) if is_unix else bound.getsockname()[:2]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": self._scheme,
            "server": server,
            "root_path": "",
        }
        self._on_empty = on_empty
        self._shared = Shared(app, asyncio.get_running_loop(), self.limits, log, scope)
        self._resume()

    def stop(self) -> None:
        """Stop accepting; connections end as soon as their request in flight is answered."""
        self._pause()
        if self._retry is not None:
            self._retry.cancel()
        if self._socket is not None:
            self._socket.close()
            if isinstance(self._address, Path):
                unlink_unix(self._address)
            self._socket = None
        if self._shared is not None:
            self._shared.stopping = True
        for connection in self.connections:
            connection.finish()

    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """Return the application's calls that have not returned."""
        return frozenset(self._shared.tasks) if self._shared is not None else frozenset()

    # Accepting

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if self._socket is None or not self._accepting:
                return
            try:
                connected, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # Others, such as ECONNABORTED, are of the one connection that is gone (accept(2)).
                if error.errno in _SHORTAGES:
                    self._back_off(error)
                    return
                continue
            self._backoff_s = _FIRST_BACKOFF_S
            self._adopt(connected, address)
            if len(self._connections) >= self.limits.max_connections:
                # Waiting in the backlog is kinder than a reset, and deadlines make room.
                self._pause()

    def _adopt(self, connected: socket.socket, address: object) -> None:
        shared = self._shared
        if shared is None:
            connected.close()
            return
        info, key = _describe(self.name, connected, address)
        if key and self._per_address[key] >= self.limits.max_connections_per_address:
            PlainTransport(connected).close(reset=True)
            self._count_refusal(info)
            return
        try:
            transport = self._transport(connected)
        except Exception as error:
            connected.close()
            shared.log.error(
                "connection_failed",
                listener=self.name,
                peer=info.address,
                error=type(error).__name__,
            )
            return
        connection = Connection(
            transport, info, shared, on_closed=lambda closed: self._forget(closed, key)
        )
        self._connections.add(connection)
        self._per_address[key] += 1
        connection.start()

    def _transport(self, connected: socket.socket) -> Transport:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            # With Nagle and delayed ACKs a handshake takes 40 ms longer (FACTS 1).
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return PlainTransport(connected)
        return TlsTransport(connected, self._context)

    def _forget(self, connection: Connection, key: str) -> None:
        self._connections.discard(connection)
        self._per_address[key] -= 1
        if self._per_address[key] <= 0:
            del self._per_address[key]
        if not self._connections and self._on_empty is not None:
            self._on_empty()
        if self._retry is None:
            self._resume()

    def _resume(self) -> None:
        self._retry = None
        if self._shared is None or self._shared.stopping or self._accepting:
            return
        if self._socket is not None and len(self._connections) < self.limits.max_connections:
            self._accepting = True
            self._shared.loop.add_reader(self._socket.fileno(), self._accept_some)

    def _pause(self) -> None:
        if self._accepting and self._shared is not None and self._socket is not None:
            self._shared.loop.remove_reader(self._socket.fileno())
        self._accepting = False

    def _back_off(self, error: OSError) -> None:
        if self._shared is None:
            return
        self._pause()
        self._shared.log.warning(
            "accept_failed", listener=self.name, error=error.strerror, retry_s=self._backoff_s
        )
        self._retry = self._shared.loop.call_later(self._backoff_s, self._resume)
        self._backoff_s = min(self._backoff_s * 2, _LONGEST_BACKOFF_S)

    def _count_refusal(self, info: ConnectionInfo) -> None:
        """Log a flood as one line a second, not as a line a connection."""
        if self._shared is None:
            return
        self._refusals += 1
        now = self._shared.loop.time()
        if now - self._refusals_logged < _REFUSALS_LOGGED_EVERY_S:
            return
        self._shared.log.warning(
            "connections_refused",
            listener=self.name,
            peer=info.address,
            reason="too-many-from-address",
            count=self._refusals,
        )
        self._refusals, self._refusals_logged = 0, now

    @property
    def _scheme(self) -> str:
        return "http" if self._context is None else "https"

    def _bound(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError(f"the listener {self.name} is not open")
        return self._socket


def _describe(name: str, connected: socket.socket, address: object) -> tuple[ConnectionInfo, str]:
    """Return who connected, and what the per-address cap counts them under."""
    if connected.family == socket.AF_UNIX:
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        return ConnectionInfo(name, "unix", unix_credentials=_PEER_CREDENTIALS.unpack(raw)), ""
    if not isinstance(address, tuple):
        return ConnectionInfo(name, "unknown"), ""
    host, port = address[:2]
    shown = f"[{host}]" if ":" in host else host
    return ConnectionInfo(name, f"{shown}:{port}"), address_key(host)


def address_key(host: str) -> str:
    """Return the address, or for IPv6 its /64: one customer has all of that (RFC 6177)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
