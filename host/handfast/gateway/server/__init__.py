"""An ASGI server for mutual TLS: verified peers in the scope, hard limits, nothing to resume unless
a listener is built to.

It knows nothing of devices or registries; see :mod:`handfast.gateway.service` for what runs in it.
"""

from handfast.gateway.server.cycle import ASGIApp, ClientGone
from handfast.gateway.server.info import ConnectionInfo
from handfast.gateway.server.limits import Limits
from handfast.gateway.server.listener import Listener
from handfast.gateway.server.response import InvalidResponse
from handfast.gateway.server.server import Server
from handfast.gateway.server.shared import Log
from handfast.gateway.server.tls import MAX_RESUMABLE_S, build_context

__all__ = [
    "MAX_RESUMABLE_S",
    "ASGIApp",
    "ClientGone",
    "ConnectionInfo",
    "InvalidResponse",
    "Limits",
    "Listener",
    "Log",
    "Server",
    "build_context",
]
