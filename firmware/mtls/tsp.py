# Handfast mTLS for MicroPython: authenticated time from a time-stamp authority (RFC 3161, 5816)
# MIT license; Copyright (c) 2026 the Handfast authors

import hashlib

from micropython import const

from . import der, pkcs7, x509
from .errors import DecodeError, ProtocolError, UnsupportedAlgorithm, Untrusted

POLICY = "1.3.6.1.4.1.32473.7.1"

_SHA256 = const(b"\x60\x86\x48\x01\x65\x03\x04\x02\x01")  # 2.16.840.1.101.3.4.2.1
_RSA_ALGORITHMS = const(
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",  # rsaEncryption
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",  # sha256WithRSAEncryption
    )
)
_TST_INFO = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04")  # id-ct-TSTInfo
_CONTENT_TYPE = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03")
_MESSAGE_DIGEST = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04")
_SIGNING_CERTIFICATE_V2 = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x2f")
_EXT_KEY_USAGE = const("2.5.29.37")
_SUBJECT_ALT_NAME = const("2.5.29.17")

# A token with its chain is some 3 KB.
_MAX_REPLY = const(16384)
_MAX_CERTIFICATES = const(4)
_MAX_ATTRIBUTES = const(16)


def query(nonce, imprint):
    """TimeStampReq for a SHA-256 imprint, asking for the certificates (RFC 3161 §2.4.1).

    nonce is a positive number, or bytes that are one, big-endian.
    """
    message = der.sequence(
        der.sequence(der.tlv(der.OID, _SHA256), b"\x05\x00"), der.octets(imprint)
    )
    return der.sequence(
        der.integer(1), message, der.integer(_number(nonce)), der.tlv(der.BOOLEAN, b"\xff")
    )


def verify(reply, nonce, imprint, anchors, floor):
    """Check a TimeStampResp to query(nonce, imprint) up to an anchor; give its Unix seconds.

    anchors are DER certificates of CAs; validity is judged at the token's own time, which may not
    lie before floor. Raises ProtocolError (or DecodeError) when the answer is not one to this
    question, Untrusted when it leads to no anchor, UnsupportedAlgorithm.
    """
    if len(reply) > _MAX_REPLY:
        raise ProtocolError("time-stamp reply too long", len(reply))
    content, certificates, signer = _open(_token(bytes(reply)))
    info = _Info(content)
    info.check(nonce, imprint)
    signature = _Signature(signer)
    leaf = signature.find_leaf(certificates)
    signature.check(leaf, content)
    info.check_name(leaf)
    _check_chain(leaf, anchors, info.time)
    if info.time < floor:
        raise Untrusted("time-stamp is before the floor", info.time, floor)
    return info.time


def _number(nonce):
    return nonce if isinstance(nonce, int) else int.from_bytes(nonce, "big")


# The envelope


def _token(reply):
    """A Reader at the TimeStampToken of a granted TimeStampResp (RFC 3161 §2.4.2)."""
    body = der.only(reply)
    status_info = body.enter(der.SEQUENCE)
    status = status_info.integer()
    if status not in (0, 1):
        failure = status_info.buf[status_info.pos : status_info.end]
        raise ProtocolError("the time-stamp authority refused", status, bytes(failure))
    if not body.more():
        raise DecodeError("granted, but no time-stamp")
    token = der.Reader(body.element(der.SEQUENCE))
    body.finish()
    return token


def _open(token):
    """(TSTInfo octets, certificates, Reader of the one SignerInfo) of the CMS SignedData."""
    body = pkcs7.signed_data(token)
    if body.integer() != 3:
        raise DecodeError("time-stamp is not SignedData version 3")
    body.next(der.SET)  # digest algorithms: the signer names its own
    encapsulated = body.enter(der.SEQUENCE)
    if encapsulated.oid() != _TST_INFO:
        raise DecodeError("signed content is not TSTInfo")
    explicit = encapsulated.enter(0xA0)
    encapsulated.finish()
    content = explicit.content(der.OCTET_STRING)
    explicit.finish()
    certificates = pkcs7.certificate_set(body, _MAX_CERTIFICATES)
    signers = body.enter(der.SET)
    body.finish()
    signer = signers.enter(der.SEQUENCE)
    signers.finish()
    return content, certificates, signer


def _want_sha256(reader):
    name = x509.algorithm(reader)
    if name != _SHA256:
        raise UnsupportedAlgorithm("digest is not SHA-256", der.dotted(name))


# What is said


class _Info:
    """TSTInfo, the statement that is signed (RFC 3161 §2.4.2)."""

    def __init__(self, content):
        body = der.only(content)
        if body.integer() != 1:
            raise DecodeError("TSTInfo is not version 1")
        self.policy = der.dotted(body.oid())
        imprint = body.enter(der.SEQUENCE)
        _want_sha256(imprint)
        self.imprint = imprint.content(der.OCTET_STRING)
        imprint.finish()
        body.integer()  # the authority's serial number
        self.time = x509.parse_time(
            der.GENERALIZED_TIME, body.content(der.GENERALIZED_TIME), fraction=True
        )
        self._parse_options(body)

    def _parse_options(self, body):
        if body.peek() == der.SEQUENCE:
            _check_accuracy(body.enter(der.SEQUENCE))
        if body.peek() == der.BOOLEAN:
            body.boolean()  # ordering: of no use to one who asks once
        self.nonce = body.integer() if body.peek() == der.INTEGER else None
        self.name = None
        if body.peek() == 0xA0:
            explicit = body.enter(0xA0)
            self.name = explicit.element()
            explicit.finish()
        if body.peek() == 0xA1:
            extensions = body.enter(0xA1)
            while extensions.more():
                one = extensions.enter(der.SEQUENCE)
                oid = one.oid()
                if one.peek() == der.BOOLEAN and one.boolean():
                    raise Untrusted("time-stamp has a critical extension", der.dotted(oid))
        body.finish()

    def check(self, nonce, imprint):
        if self.policy != POLICY:
            raise Untrusted("time-stamp of another policy", self.policy)
        if self.imprint != imprint:
            raise Untrusted("time-stamp of another message")
        if self.nonce is None or self.nonce != _number(nonce):
            raise Untrusted("time-stamp answers another question")

    def check_name(self, leaf):
        """If the authority names itself, its certificate must bear that name."""
        if self.name is None or self.name == der.tlv(0xA4, leaf.subject):
            return
        found = leaf.extension(_SUBJECT_ALT_NAME)
        names = der.Reader(found[1]).enter(der.SEQUENCE) if found else der.Reader(b"")
        while names.more():
            if names.element() == self.name:
                return
        raise Untrusted("the time-stamp authority is not whom it says it is")


def _check_accuracy(body):
    """Accuracy: seconds, then milli- and microseconds of 1 to 999 each."""
    if body.peek() == der.INTEGER:
        body.integer()
    for tag in (0x80, 0x81):
        if body.peek() == tag:
            value = body.content(tag)
            if not 1 <= int.from_bytes(value, "big") <= 999 or len(value) > 2:
                raise DecodeError("bad accuracy")
    body.finish()


# Who says it


class _Signature:
    """SignerInfo with its signed attributes (RFC 5652 §5.3)."""

    def __init__(self, signer):
        version = signer.integer()
        if version == 1:
            sid = signer.enter(der.SEQUENCE)
            self._issuer = sid.element(der.SEQUENCE), sid.integer()
            sid.finish()
        elif version == 3:
            self._issuer = None
            signer.next(0x80)  # subject key identifier: ESSCertIDv2 says it better
        else:
            raise DecodeError("unknown SignerInfo version")
        _want_sha256(signer)
        # What is signed is the attributes' encoding as SET OF, not as the [0] sent (§5.4).
        self._signed = b"\x31" + signer.element(0xA0)[1:]
        name = x509.algorithm(signer)
        if name not in _RSA_ALGORITHMS:
            raise UnsupportedAlgorithm("time-stamp signature", der.dotted(name))
        self._value = signer.content(der.OCTET_STRING)
        if signer.peek() == 0xA1:
            signer.next()  # unsigned attributes
        signer.finish()
        self._parse_attributes(der.Reader(self._signed).enter(der.SET))

    def _parse_attributes(self, attributes):
        found = {}
        while attributes.more():
            attribute = attributes.enter(der.SEQUENCE)
            oid = attribute.oid()
            values = attribute.enter(der.SET)
            attribute.finish()
            if oid in found or len(found) >= _MAX_ATTRIBUTES:
                raise DecodeError("signed attribute twice, or too many", der.dotted(oid))
            found[oid] = values
        for needed in (_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_CERTIFICATE_V2):
            if needed not in found:
                raise DecodeError("signed attribute missing", der.dotted(needed))
        if _one(found[_CONTENT_TYPE], der.OID).oid() != _TST_INFO:
            raise DecodeError("signed attributes are not of TSTInfo")
        self._digest = _one(found[_MESSAGE_DIGEST], der.OCTET_STRING).content(der.OCTET_STRING)
        self._parse_signing_certificate(_one(found[_SIGNING_CERTIFICATE_V2], der.SEQUENCE))

    def _parse_signing_certificate(self, value):
        """SigningCertificateV2 (RFC 5035 §3): its first ESSCertIDv2 is the signer's."""
        body = value.enter(der.SEQUENCE)
        first = body.enter(der.SEQUENCE).enter(der.SEQUENCE)
        if first.peek() == der.SEQUENCE:
            _want_sha256(first)  # DEFAULT, which some encode all the same
        self._hash = first.content(der.OCTET_STRING)
        self._named = None
        if first.more():
            named = first.enter(der.SEQUENCE)
            self._named = named.element(der.SEQUENCE), named.integer()
            named.finish()
        first.finish()

    def find_leaf(self, certificates):
        """The certificate that the signed attributes name, among those sent."""
        for encoded in certificates:
            if hashlib.sha256(encoded).digest() == self._hash:
                leaf = x509.Certificate(encoded)
                break
        else:
            raise Untrusted("the time-stamp's certificate is not in it")
        if self._issuer and self._issuer != (leaf.issuer, leaf.serial):
            raise Untrusted("the time-stamp's signer is another than its certificate")
        if self._named:
            # IssuerSerial holds the issuer as GeneralNames with one directoryName.
            general_names = der.sequence(der.tlv(0xA4, leaf.issuer))
            if self._named != (general_names, leaf.serial):
                raise Untrusted("the time-stamp's certificate is named otherwise")
        return leaf

    def check(self, leaf, content):
        if self._digest != hashlib.sha256(content).digest():
            raise Untrusted("time-stamp altered")
        if not x509.rsa_verify(leaf.spki, self._signed, self._value):
            raise Untrusted("time-stamp signature is wrong")


def _one(values, tag):
    """A Reader at the only value of an attribute."""
    only = values.element(tag)
    values.finish()
    return der.Reader(only)


def _check_chain(leaf, anchors, t):
    """Raises Untrusted unless leaf is for time-stamping alone and an anchor has signed it."""
    eku = leaf.extension(_EXT_KEY_USAGE)
    if leaf.eku != (x509.TIME_STAMPING,) or not eku[0]:
        raise Untrusted("certificate is not for time-stamping alone")
    if leaf.is_ca or not (leaf.may(x509.DIGITAL_SIGNATURE) or leaf.may(x509.NON_REPUDIATION)):
        raise Untrusted("certificate may not sign time-stamps")
    if leaf.unhandled():
        raise Untrusted("certificate has a critical extension unknown here", *leaf.unhandled())
    if not leaf.valid_at(t):
        raise Untrusted("certificate is not valid at the time it gives", t)
    x509.check_held(leaf, anchors, x509.TIME_STAMPING, t)
