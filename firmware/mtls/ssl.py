# Handfast mTLS for MicroPython: TLS for those who bring their own protocol (MQTT, WebSocket, ...)
# MIT license; Copyright (c) 2026 the Handfast authors
"""What `ssl` is on a board, but verifying: nothing here can be told not to."""

import tls

from .errors import ConfigError, StoreDamaged
from .tls import CURRENT, choose_identity, client_context, require_ready

CERT_REQUIRED = tls.CERT_REQUIRED


def context(store, identity=CURRENT, pins=None, clock=None):
    """Return a tls.SSLContext that trusts the store's anchors and presents the board's leaf.

    Made anew for each connection it presents the newest leaf. Its wrap_socket needs
    `server_hostname`. Raises NotEnrolled, ClockNotSet, EntropyError.
    """
    identity = choose_identity(store, identity)
    require_ready(store, clock)
    if pins:
        from .pin import Pins

        pins = Pins(pins)
    return client_context(store.anchors(), identity, pins or None)


def _given(key, cert):
    from .store import Identity

    identity = Identity("given", key, cert)
    if not identity.matches():
        raise StoreDamaged("the certificate given is for another key")
    return identity


def wrap_socket(
    sock,
    server_side=False,
    key=None,
    cert=None,
    cert_reqs=CERT_REQUIRED,
    cadata=None,
    server_hostname=None,
    do_handshake=True,
):
    """Return `sock` under TLS, as MicroPython's ssl.wrap_socket does, its peer verified.

    Without `cadata` (DER) the anchors at /mtls are trusted, without `cert` and `key` (DER) the
    board's own identity is presented. Raises Untrusted, Refused, Unreachable, OutOfMemory.
    """
    if server_side or cert_reqs != CERT_REQUIRED:
        raise ConfigError("this is a client that verifies: use the firmware's ssl for others")
    if (key is None) != (cert is None):
        raise ConfigError("key and cert are given together or not at all")
    if not server_hostname:
        raise ConfigError("server_hostname is missing: the peer's certificate is checked for it")
    from .store import Store

    store = Store()
    identity = CURRENT if cert is None else _given(key, cert)
    identity = choose_identity(store, identity)
    require_ready(store)
    made = client_context([cadata] if cadata else store.anchors(), identity)
    try:
        return made.wrap_socket(
            sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake
        )
    except Exception as error:
        from .failure import signing_failure, tls_error

        # What was heard on a socket of somebody else's nobody knows: only an alert is a refusal.
        raise signing_failure(made) or tls_error(error, server_hostname, False)
