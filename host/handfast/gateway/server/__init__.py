"""An ASGI server for mutual TLS: pyOpenSSL on non-blocking sockets, HTTP/1.1 with hard limits."""

from handfast.gateway.server.limits import Limits
from handfast.gateway.server.listener import Listener
from handfast.gateway.server.peer import ConnectionInfo
from handfast.gateway.server.server import Server
from handfast.gateway.server.tls import build_context

__all__ = ["ConnectionInfo", "Limits", "Listener", "Server", "build_context"]
