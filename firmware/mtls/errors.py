# Handfast mTLS for MicroPython: what can go wrong, named by what the application can do about it
# MIT license; Copyright (c) 2026 the Handfast authors


class MTLSError(Exception):
    """Base of every error that this library raises on purpose.

    `retry_after_s`: the peer asked to be left alone for so long, 0 if it did not.
    """

    retry_after_s = 0


class ClockNotSet(MTLSError):
    """No believable time: set the clock (time-stamp authority, NTP, RTC) and try again."""


class NotEnrolled(MTLSError):
    """No usable identity on this board: enrol with a token or the factory certificate."""


class Refused(MTLSError):
    """The peer answered no. `type` is the problem document's type (RFC 9457) or None."""

    def __init__(self, status, type=None, detail=None):
        super().__init__(status, type, detail)
        self.status = status
        self.type = type
        self.detail = detail


class Pending(MTLSError):
    """The EST server has not decided yet (202): ask again with the same key, after a while."""


class Unreachable(MTLSError):
    """No answer in time: the network, the name or the peer is down; try again later."""


class Untrusted(MTLSError):
    """The peer, certificate or signed time does not lead to an anchor that this board holds."""


class StoreDamaged(MTLSError):
    """A file of the identity store is torn or altered; the other slot may still be good."""


class ConfigError(MTLSError):
    """The configuration or an argument makes no sense: provision the board again."""


class OutOfMemory(MTLSError):
    """Not enough free heap for a TLS session: free some and try again."""


class EntropyError(MTLSError):
    """The random source looks stuck: make no key and open no TLS session on this board."""


class SecureElementError(MTLSError):
    """The chip with the private key does not answer, or not as it should: check its wiring."""


class UnsupportedAlgorithm(MTLSError):
    """Well formed, but made with an algorithm or key size that this library does not check."""


class FlashFull(MTLSError):
    """No room left on the filesystem; nothing was changed."""


class ProtocolError(MTLSError):
    """The peer's answer breaks its protocol."""


class DecodeError(ProtocolError):
    """Bytes that are not the DER (or the field) that they should be."""


def console_facts(error):
    """Return ("refused" or "error", (key, value) pairs): what a log or console says of an error."""
    if not isinstance(error, Refused):
        detail = str(error.args[0]) if error.args else "-"
        return "error", (("kind", type(error).__name__), ("detail", detail))
    facts = (("status", error.status), ("type", error.type or "-"))
    if error.type is None and error.detail:
        facts += (("detail", error.detail),)
    return "refused", facts
