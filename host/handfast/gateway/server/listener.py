"""A place where peers connect: an address, its TLS context, its limits."""

from __future__ import annotations

import socket

from OpenSSL import SSL

from handfast.gateway.server.limits import Limits


class Listener:
    """A listening socket and what new connections to it get.

    Args:
        name: tells listeners apart, for the application and in the log.
        sock: bound and listening already; the caller closes it after the server has stopped.
        context: the TLS context, None for plain HTTP.
        limits: bounds on every connection.
    """

    def __init__(
        self, name: str, sock: socket.socket, context: SSL.Context | None, limits: Limits
    ) -> None:
        self.name = name
        self.sock = sock
        self.context = context
        self.limits = limits

    def swap_context(self, context: SSL.Context) -> None:
        """Give connections from now on another context; open ones keep theirs."""
        self.context = context
