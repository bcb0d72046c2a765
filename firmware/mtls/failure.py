# Handfast mTLS for MicroPython: what it means that a TLS handshake failed
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

from .errors import OutOfMemory, ProtocolError, Refused, Unreachable, Untrusted
from .room import DOUBT_BYTES, needed

_EPIPE = const(32)
_ECONNRESET = const(104)
_ETIMEDOUT = const(110)
_FATAL_ALERT = const(-0x7780)
_CONN_EOF = const(-0x7280)
_OUT_OF_MEMORY = const((12, -0x7F00, -0x2880, -0x3F80, -0x10))  # ENOMEM; SSL, X.509, PK, bignum

# Also said of a signature that mbedTLS had no heap left to check.
_UNSIGNED = const("The certificate is not correctly signed by the trusted CA")


def signing_failure(context):
    """Return why a key in a chip did not sign for the handshake; None if that was not it."""
    signer = getattr(context, "ecdsa_sign_callback", None)
    return signer.failure if signer else None


def handshake_error(error, host, port, heard, pins, context, free):
    """As tls_error, but a key in a chip, pins, or a heap with only `free` bytes before may have
    been the reason."""
    failure = signing_failure(context)
    if failure is not None:
        return failure
    where = "%s:%d" % (host, port)
    if pins is not None and pins.refused:
        return Untrusted(where + " is verified, but none of its keys is pinned")
    found = tls_error(error, where, heard)
    unsigned = isinstance(error, ValueError) and str(error).strip() == _UNSIGNED
    if (unsigned or isinstance(found, ProtocolError)) and free < needed() + DOUBT_BYTES:
        return OutOfMemory("not enough heap, or %s" % found.args[0], *found.args[1:])
    return found


def tls_error(error, where, heard):
    """Return the library's error for what `tls` raised during a handshake, itself if not known.

    `heard`: the peer has sent something. It refuses a certificate after its own hello; one that
    hangs up without a word (it restarts, it is full, its balancer has no backend) refuses nothing.
    """
    if isinstance(error, MemoryError):
        return OutOfMemory("not enough heap for a TLS session with %s: free some" % where)
    if isinstance(error, ValueError):
        reasons = [line for line in str(error).split("\n") if line]
        return Untrusted(where + " is not verified: " + "; ".join(reasons))
    if not isinstance(error, OSError):
        return error
    code = error.errno
    if code == _ETIMEDOUT:
        return Unreachable(where + " does not finish the TLS handshake in time")
    if code in _OUT_OF_MEMORY:
        return OutOfMemory("not enough heap for a TLS session with %s: free some" % where, code)
    if code == _FATAL_ALERT or (heard and code in (_CONN_EOF, _EPIPE, _ECONNRESET)):
        return Refused(0, None, where + " ended the TLS handshake (%d)" % code)
    if code > 0 or code == _CONN_EOF:
        return Unreachable(where + " hung up during the TLS handshake: is it running?", code)
    return ProtocolError(where + " does not speak TLS as expected", code)
