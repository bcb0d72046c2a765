# Handfast mTLS for MicroPython: the board's private key, and certification requests (PKCS#10)
# MIT license; Copyright (c) 2026 the Handfast authors

import hashlib

from micropython import const

from . import der, p256
from .errors import ConfigError, DecodeError

_EC_PUBLIC_KEY = const(b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01")  # 1.2.840.10045.2.1
_SECP256R1 = const(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")  # 1.2.840.10045.3.1.7
_ECDSA_SHA256 = const(b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")  # 1.2.840.10045.4.3.2
_EXTENSION_REQUEST = const(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e")  # 1.2.840.113549.1.9.14
_SUBJECT_ALT_NAME = const(b"\x06\x03\x55\x1d\x11")  # 2.5.29.17
_COMMON_NAME = const(b"\x06\x03\x55\x04\x03")
_SERIAL_NUMBER = const(b"\x06\x03\x55\x04\x05")
# [2]: what a slot file holds in place of an ECPrivateKey, which is a SEQUENCE (atecc.py).
IN_CHIP = const(0x82)
# The punctuation of PrintableString (X.680 §41.4).
_PRINTABLE = " '()+,-./:=?"


class SoftwareKey:
    """A P-256 key held in memory. Never prints itself.

    drbg blinds and salts the signatures; without one, the first signature gathers its own.
    """

    def __init__(self, d, public, drbg=None):
        self._d = d
        self._public = public
        self._drbg = drbg

    def __repr__(self):
        return "<SoftwareKey>"

    @classmethod
    def generate(cls, drbg):
        """A fresh key, by rejection sampling (FIPS 186-5 A.2.2)."""
        while True:
            d = int.from_bytes(drbg.generate(32), "big") + 1
            if d < p256.N:
                return cls(d, _point(d, drbg), drbg)

    @classmethod
    def from_der(cls, encoded, drbg=None):
        """Reads a SEC1 ECPrivateKey with named curve and public key (RFC 5915)."""
        body = der.only(encoded)
        if body.integer() != 1:
            raise DecodeError("unknown ECPrivateKey version")
        secret = body.content(der.OCTET_STRING)
        if body.content(0xA0) != _SECP256R1:
            raise DecodeError("not a P-256 key")
        point = body.enter(0xA1)
        public = point.bits()
        point.finish()
        body.finish()
        d = int.from_bytes(secret, "big")
        if len(secret) != 32 or not 0 < d < p256.N or len(public) != 65 or public[0] != 4:
            raise DecodeError("bad P-256 key")
        x, y = int.from_bytes(public[1:33], "big"), int.from_bytes(public[33:], "big")
        if not p256.on_curve(x, y):
            raise DecodeError("bad P-256 key")
        return cls(d, public, drbg)

    def to_der(self):
        """SEC1 ECPrivateKey, the form that `tls.load_cert_chain` takes."""
        return private_key_der(self._d, self._public)

    def public(self):
        """The uncompressed point, 65 octets."""
        return self._public

    def spki(self):
        """SubjectPublicKeyInfo (RFC 5480), DER."""
        return public_key_info(self._public)

    def matches(self, spki_der):
        """Whether a certificate's SubjectPublicKeyInfo is this key's."""
        return self.spki() == spki_der

    def sign(self, message):
        """ECDSA with SHA-256 of message: DER Ecdsa-Sig-Value (RFC 3279 §2.2.3)."""
        if self._drbg is None:
            from .entropy import gather

            self._drbg = gather()
        drbg = self._drbg
        digest = hashlib.sha256(message).digest()
        r, s = p256.sign(self._d, digest, drbg.generate, drbg.generate(32))
        return ecdsa_signature(r, s)


def private_key_der(d, public):
    """ECPrivateKey (RFC 5915) with named curve and public point."""
    return der.sequence(
        der.integer(1),
        der.octets(d.to_bytes(32, "big")),
        der.tlv(0xA0, _SECP256R1),
        der.tlv(0xA1, der.bitstring(public)),
    )


def public_key_info(public):
    """SubjectPublicKeyInfo (RFC 5480) of an uncompressed point."""
    return der.sequence(der.sequence(_EC_PUBLIC_KEY, _SECP256R1), der.bitstring(public))


def ecdsa_signature(r, s):
    """Ecdsa-Sig-Value (RFC 3279 §2.2.3)."""
    return der.sequence(der.integer(r), der.integer(s))


def _point(d, drbg):
    x, y = p256.multiply(d, drbg.generate)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def csr(key, subject_der, san_der=None):
    """CertificationRequest (RFC 2986) for key, DER.

    key needs spki() and sign(message). san_der is the value of a subjectAltName extension
    (GeneralNames), put into an extensionRequest attribute (RFC 2985 §5.4.2).
    """
    attributes = b""
    if san_der:
        extensions = der.sequence(der.sequence(_SUBJECT_ALT_NAME, der.octets(san_der)))
        attributes = der.sequence(_EXTENSION_REQUEST, der.tlv(der.SET, extensions))
    info = der.sequence(der.integer(0), subject_der, key.spki(), der.tlv(0xA0, attributes))
    return der.sequence(info, der.sequence(_ECDSA_SHA256), der.bitstring(key.sign(info)))


def device_subject(device_id, hardware_id=None):
    """Name with CN and, if the hardware has an id, the serialNumber attribute after it."""
    names = [_attribute(_COMMON_NAME, der.UTF8_STRING, device_id)]
    if hardware_id:
        for c in hardware_id:
            if not (c in _PRINTABLE or "0" <= c <= "9" or "a" <= c.lower() <= "z"):
                raise ConfigError("hardware_id is not a PrintableString", hardware_id)
        names.append(_attribute(_SERIAL_NUMBER, der.PRINTABLE_STRING, hardware_id))
    return der.sequence(*names)


def _attribute(oid, tag, text):
    return der.tlv(der.SET, der.sequence(oid, der.tlv(tag, text.encode())))


def device_san(trust_domain, device_id):
    """Value of the subjectAltName extension: the one URI that names a device, DER."""
    uri = "spiffe://" + trust_domain + "/device/" + device_id
    return der.sequence(der.tlv(0x86, uri.encode()))
