# Handfast mTLS for MicroPython: where TLS anchors come from (RFC 7030 4.1)
# MIT license; Copyright (c) 2026 the Handfast authors
"""An EST server publishes CA certificates; which of them become anchors is for the root to say.

A board without an anchor that was given the root's SHA-256 fetches them from whoever is at the EST
server's address (4.1.1). What makes them ours is the fingerprint and, below it, signatures; the
token, and all else that is worth something, goes out over later sessions, which verify by them.
"""

from binascii import unhexlify
from hashlib import sha256

from .errors import ConfigError, Refused, Untrusted


class _Anyone:
    """What a Session asks of a store and of a clock, for a peer that nothing is known of yet.

    It sends one GET that anyone may read, so the time does not matter; the random source does.
    """

    believable = True

    def __init__(self, store):
        self.drbg = store.drbg

    def anchors(self):
        from .tls import UNVERIFIED

        return UNVERIFIED


def fetch_by_fingerprint(store, floor, timeout_ms=10000):
    """Fetch the CA certificates, check them, and keep the root and the TLS anchors below it.

    `floor`: no true time is before it. Raises Untrusted when no certificate has config.json's
    root_sha256, or none below that one may be an anchor; ConfigError without a root_sha256.
    """
    from .client import Session
    from .cacerts import fetch
    from .pkcs7 import certificates
    from .rollover import keep, new_roots, server_cas

    config = store.config()
    if not config["root_sha256"]:
        store.anchors()  # raises what a board without either is told
    anyone = _Anyone(store)
    session = Session(config["enrol_url"], anyone, None, timeout_ms, anyone)
    pieces = []
    try:
        fetch(session, None, lambda: pieces.append)
    except Refused as refusal:
        refusal.retry_after_s = 0  # nobody knows who said it
        raise
    finally:
        session.close()
    found = certificates(b"".join(pieces))
    roots = [_root(found, config["root_sha256"])]
    roots += new_roots(found, roots, floor)
    anchors = server_cas(found, roots, floor)
    if not anchors:
        raise Untrusted("no server CA below the root: the EST server publishes none, or lies")
    for root in roots:
        keep(store, "root", root)
    for anchor in anchors:  # these last: without one the board asks again
        keep(store, "tls", anchor)


def _root(found, sha256_hex):
    from .x509 import Certificate

    try:
        wanted = unhexlify(sha256_hex)
    except ValueError:
        raise ConfigError("config.json: root_sha256 must be 64 hexadecimal digits")
    for der in found:
        if sha256(der).digest() == wanted:
            root = Certificate(der)
            if not root.is_ca or not root.signed_by(root):
                raise Untrusted("root_sha256 is of a certificate that is no root")
            return der
    raise Untrusted("no certificate of the EST server has root_sha256: check both")
