# Handfast mTLS for MicroPython: certificates (RFC 5280), and RSA signatures over them
# MIT license; Copyright (c) 2026 the Handfast authors

import hashlib

from micropython import const

from . import der
from .errors import DecodeError, UnsupportedAlgorithm, Untrusted
from .utc import now as _now
from .utc import to_unix

_SHA256_WITH_RSA = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b")  # 1.2.840.113549.1.1.11
_RSA_ENCRYPTION = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")  # 1.2.840.113549.1.1.1
_KEY_USAGE = const(b"\x55\x1d\x0f")
_BASIC_CONSTRAINTS = const(b"\x55\x1d\x13")
_EXT_KEY_USAGE = const(b"\x55\x1d\x25")
# DigestInfo of a SHA-256 digest (RFC 8017 §9.2, note 1).
_DIGEST_INFO = const(
    b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
)

_MAX_EXTENSIONS = const(32)

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"

# Bits of keyUsage, as bit numbers of RFC 5280 §4.2.1.3.
DIGITAL_SIGNATURE = 0
NON_REPUDIATION = 1
KEY_CERT_SIGN = 5


def parse_time(tag, text, fraction=False):
    """Unix seconds of UTCTime or GeneralizedTime content; a fraction is allowed if asked, and cut.

    UTCTime is YYMMDDHHMMSSZ (1950 to 2049), GeneralizedTime YYYYMMDDHHMMSSZ (RFC 5280 §4.1.2.5);
    with a fraction as RFC 3161 §2.4.2 has it: a point, digits, no trailing zero.
    """
    size = {der.UTC_TIME: 12, der.GENERALIZED_TIME: 14}.get(tag)
    if size is None or len(text) <= size or text[-1:] != b"Z":
        raise DecodeError("bad time")
    digits, rest = text[:size], text[size:-1]
    if rest:
        fine = rest[:1] == b"." and rest[1:].isdigit() and rest[-1:] != b"0"
        if not fraction or not fine or tag != der.GENERALIZED_TIME or len(rest) > 10:
            raise DecodeError("bad time")
    if not digits.isdigit():
        raise DecodeError("bad time")
    fields = [int(digits[i : i + 2]) for i in range(size - 10, size, 2)]
    year = int(digits[: size - 10])
    if size == 12:
        year += 1900 if year >= 50 else 2000
    month, day, hour, minute, second = fields
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60):
        raise DecodeError("bad time")
    start = to_unix(year, month, 1)
    end = to_unix(year + month // 12, month % 12 + 1, 1)
    if not 0 < day <= (end - start) // 86400:
        raise DecodeError("bad time")
    return to_unix(year, month, day, hour, minute, second)


def _time(reader):
    tag, text = reader.peek(), reader.next()[1]
    return parse_time(tag, bytes(text.buf[text.pos : text.end]))


def algorithm(reader):
    """OID content of the next AlgorithmIdentifier, whose parameters are absent or NULL."""
    body = reader.enter(der.SEQUENCE)
    oid = body.oid()
    if body.more() and body.element() != b"\x05\x00":
        raise UnsupportedAlgorithm("algorithm with parameters", der.dotted(oid))
    body.finish()
    return oid


class Certificate:
    """A parsed certificate. Times are Unix seconds, names and keys DER; nothing is verified yet."""

    def __init__(self, encoded):
        encoded = bytes(encoded)
        self.der = encoded
        body = der.only(encoded)
        self._tbs = body.element(der.SEQUENCE)
        self._algorithm = body.element(der.SEQUENCE)
        self._signature = body.bits()
        body.finish()
        self._parse(der.only(self._tbs))

    def _parse(self, tbs):
        version = 0
        if tbs.peek() == 0xA0:
            explicit = tbs.enter(0xA0)
            version = explicit.integer()
            explicit.finish()
        if version != 2:
            raise DecodeError("not an X.509 v3 certificate")
        self.serial = tbs.integer()
        if tbs.element(der.SEQUENCE) != self._algorithm:
            raise DecodeError("certificate names two signature algorithms")
        self.issuer = tbs.element(der.SEQUENCE)
        validity = tbs.enter(der.SEQUENCE)
        self.not_before = _time(validity)
        self.not_after = _time(validity)
        validity.finish()
        self.subject = tbs.element(der.SEQUENCE)
        self.spki = tbs.element(der.SEQUENCE)
        for unique_id in (0x81, 0x82):
            if tbs.peek() == unique_id:
                tbs.next()
        self._extensions = {}
        if tbs.more():
            self._parse_extensions(tbs.enter(0xA3))
        tbs.finish()
        self._parse_constraints()

    def _parse_extensions(self, explicit):
        extensions = explicit.enter(der.SEQUENCE)
        explicit.finish()
        while extensions.more():
            one = extensions.enter(der.SEQUENCE)
            oid = one.oid()
            critical = one.peek() == der.BOOLEAN and one.boolean()
            value = one.content(der.OCTET_STRING)
            one.finish()
            if oid in self._extensions or len(self._extensions) >= _MAX_EXTENSIONS:
                raise DecodeError("extension twice, or too many", der.dotted(oid))
            self._extensions[oid] = critical, value

    def _parse_constraints(self):
        self.is_ca = False
        self.path_length = None
        found = self._extensions.get(_BASIC_CONSTRAINTS)
        if found:
            body = der.only(found[1])
            self.is_ca = body.peek() == der.BOOLEAN and body.boolean()
            if body.more():
                self.path_length = body.integer()
                if not self.is_ca or self.path_length < 0:
                    raise DecodeError("bad path length")
            body.finish()
        self.eku = ()
        found = self._extensions.get(_EXT_KEY_USAGE)
        if found:
            body = der.only(found[1])
            purposes = []
            while body.more():
                purposes.append(der.dotted(body.oid()))
            self.eku = tuple(purposes)
        self._key_usage = None
        found = self._extensions.get(_KEY_USAGE)
        if found:
            body = der.Reader(found[1])
            content = body.content(der.BIT_STRING)
            body.finish()
            if not content or content[0] > 7:
                raise DecodeError("bad key usage")
            self._key_usage = content[1:]

    def extension(self, oid_dotted):
        """(critical, value) of an extension, or None."""
        return self._extensions.get(der.oid_content(oid_dotted))

    def may(self, bit):
        """Whether keyUsage, if there is one, allows the use with this bit number."""
        if self._key_usage is None:
            return True
        at = bit // 8
        return at < len(self._key_usage) and bool(self._key_usage[at] << bit % 8 & 0x80)

    def unhandled(self):
        """OIDs of critical extensions beyond basicConstraints, keyUsage and extKeyUsage.

        mbedTLS does not parse a certificate that has one.
        """
        known = (_BASIC_CONSTRAINTS, _KEY_USAGE, _EXT_KEY_USAGE)
        found = self._extensions.items()
        return [der.dotted(oid) for oid, (critical, _) in found if critical and oid not in known]

    def valid_at(self, t):
        return self.not_before <= t <= self.not_after

    def signed_by(self, issuer):
        """Whether issuer's name and key are behind the signature: RSA PKCS#1 v1.5 with SHA-256.

        Any other algorithm raises UnsupportedAlgorithm.
        """
        name = algorithm(der.Reader(self._algorithm))
        if name != _SHA256_WITH_RSA:
            raise UnsupportedAlgorithm("certificate signature", der.dotted(name))
        return self.issuer == issuer.subject and rsa_verify(issuer.spki, self._tbs, self._signature)


def _rsa_key(spki):
    """(n, e) of a SubjectPublicKeyInfo, checked for size."""
    outer = der.only(spki)
    name = algorithm(outer)
    if name != _RSA_ENCRYPTION:
        raise UnsupportedAlgorithm("not an RSA key", der.dotted(name))
    body = der.only(outer.bits())
    outer.finish()
    n, e = body.integer(), body.integer()
    body.finish()
    # Not 1 << 4096 <= n: the compiler would keep that number, 1.2 KB in decimal digits.
    if not n >> 2047 or n >> 4096 or not n & 1:
        raise UnsupportedAlgorithm("RSA modulus is not 2048 to 4096 bits")
    # The upper bound keeps a hostile key from costing minutes.
    if not (65537 <= e < 1 << 32 and e & 1):
        raise UnsupportedAlgorithm("RSA exponent out of range")
    return n, e


def rsa_verify(spki, message, signature):
    """Whether signature is RSASSA-PKCS1-v1_5 with SHA-256 over message (RFC 8017 §8.2.2).

    The encoded message is built and compared whole; no padding is ever parsed.
    """
    n, e = _rsa_key(spki)
    size = len(spki)
    while not n >> 8 * (size - 1):
        size -= 1
    s = int.from_bytes(signature, "big")
    if len(signature) != size or s >= n:
        return False
    tail = _DIGEST_INFO + hashlib.sha256(message).digest()
    expected = b"\x00\x01" + b"\xff" * (size - 3 - len(tail)) + b"\x00" + tail
    return pow(s, e, n).to_bytes(size, "big") == expected


def check_issuer(issuer, purpose, t, depth=0):
    """Raises Untrusted unless issuer may issue now: CA, path length, key usage, EKU, validity.

    purpose is an EKU that it must name, or None; depth counts the CAs between it and the leaf.
    """
    if not issuer.is_ca or not issuer.may(KEY_CERT_SIGN):
        raise Untrusted("issuer is not a CA")
    if issuer.path_length is not None and issuer.path_length < depth:
        raise Untrusted("issuer may not have a CA below it")
    if purpose and purpose not in issuer.eku:
        raise Untrusted("issuer may not issue for this purpose", purpose)
    if issuer.unhandled():
        raise Untrusted("issuer has a critical extension unknown here", *issuer.unhandled())
    if not issuer.valid_at(t):
        raise Untrusted("issuer is not valid now", issuer.not_before, issuer.not_after, t)


def check_held(certificate, held, purpose, t, depth=0):
    """Raises Untrusted unless one of the CAs held here (DER) has signed certificate and may do so.

    Every one is tried: a renewed CA stands beside its former self, of the same name and often of
    the same key. What spoke against the last of that name is raised.
    """
    reason = Untrusted("no CA held here has signed this certificate")
    for encoded in held:
        issuer = Certificate(encoded)
        if issuer.subject != certificate.issuer:
            continue
        try:
            if certificate.signed_by(issuer):
                check_issuer(issuer, purpose, t, depth)
                return
        except (Untrusted, UnsupportedAlgorithm) as error:
            reason = error
    raise reason


def check_tls_anchor(candidate_der, roots, now=None):
    """The Certificate of a new TLS anchor that one of the roots (DER) vouches for, or Untrusted.

    It must be a CA for serverAuth, signed by a root held here, and both valid now.
    """
    t = _now() if now is None else now
    candidate = Certificate(candidate_der)
    check_issuer(candidate, SERVER_AUTH, t)
    check_held(candidate, roots, None, t, depth=1)
    return candidate
