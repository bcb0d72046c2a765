"""What pyOpenSSL does not say of a connection's TLS session: whether it was resumed, and how bound.

The functions are OpenSSL's own, which ``cryptography`` brings for pyOpenSSL; this is the one place
that reaches for them past pyOpenSSL's names.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

_lib: Any = Binding().lib


def was_resumed(connection: SSL.Connection) -> bool:
    """Tell whether an established connection has the session of an earlier one."""
    return bool(_lib.SSL_session_reused(connection._ssl) == 1)


def has_extended_master_secret(connection: SSL.Connection) -> bool:
    """Tell whether an established connection's master secret is bound to its whole handshake.

    A resumed session tells it of the handshake that it began with (RFC 7627 section 5.3).
    """
    return bool(_lib.SSL_get_extms_support(connection._ssl) == 1)


def prefer_signatures(context: SSL.Context, names: str) -> None:
    """Have the server sign by the first of ``names`` (OpenSSL's, with colons) that a client takes.

    Raises:
        ValueError: OpenSSL does not know one of them.
    """
    if _lib.SSL_CTX_set1_sigalgs_list(context._context, names.encode()) != 1:
        raise ValueError(f"OpenSSL does not take the signature algorithms {names}")
