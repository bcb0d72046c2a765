# Handfast mTLS for MicroPython: enrolment over secure transport (EST, RFC 7030 with RFC 8951)
# MIT license; Copyright (c) 2026 the Handfast authors

import binascii
import gc

from micropython import const

from .errors import ProtocolError, Untrusted

_PREFIX = "/.well-known/est/"
_PKCS10 = "application/pkcs10"
_PKCS7 = "application/pkcs7-mime"
_SAN = "2.5.29.17"
_MAX_SKEW_S = const(600)
_HEADERS = (("Content-Type", _PKCS10), ("Content-Transfer-Encoding", "base64"))


def basic_authorization(user, password):
    text = binascii.b2a_base64((user + ":" + password).encode()).decode()
    return "Basic " + text.replace("\n", "")


def enrolment_request(key, config, hardware_id):
    """Return the CSR (DER) of a first enrolment: the names of DESIGN 7."""
    from .keys import csr, device_san, device_subject

    return csr(
        key,
        device_subject(config["device_id"], hardware_id),
        device_san(config["trust_domain"], config["device_id"]),
    )


def renewal_request(key, leaf):
    """Return the CSR (DER) that repeats subject and SAN of the leaf (RFC 7030 4.2.2)."""
    from .keys import csr

    san = leaf.extension(_SAN)
    return csr(key, leaf.subject, bytes(san[1]) if san else None)


def _certificates(response):
    from .pkcs7 import certificates

    content_type = response.headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() != _PKCS7:
        raise ProtocolError("the EST server answered with %s" % (content_type or "no type"))
    try:
        der = binascii.a2b_base64(response.content)
    except ValueError:
        raise ProtocolError("the EST server's answer is not base64")
    return certificates(der)


def check_leaf(der, key, now):
    """Return the parsed certificate if it is for our key and its life is sane."""
    from .x509 import Certificate

    leaf = Certificate(der)
    if not key.matches(leaf.spki):
        raise Untrusted("the EST server issued a certificate for another key")
    if leaf.is_ca:
        raise Untrusted("the EST server issued a CA certificate")
    if leaf.not_before > now + _MAX_SKEW_S or leaf.not_after <= now:
        raise Untrusted("the EST server issued a certificate that is not valid now")
    return leaf


def _enrol(session, operation, request, key, now, headers):
    """Return the issued leaf (DER). The session is closed: the next TLS session needs its heap."""
    body = binascii.b2a_base64(request)
    try:
        response = session.request(
            "POST", _PREFIX + operation, headers=headers, data=body, idempotent=True
        )
    finally:
        session.close()
    response.raise_for_status()
    if response.status_code != 200:
        raise ProtocolError("the EST server answered %d" % response.status_code)
    found = _certificates(response)
    response = None
    gc.collect()
    if not found:
        raise ProtocolError("the EST server sent no certificate")
    leaf = bytes(found[0])
    check_leaf(leaf, key, now)
    return leaf


def simpleenroll(session, request, key, now, user=None, token=None):
    """Return the leaf (DER) for a first CSR: by one-time token, or by the session's IDevID."""
    headers = list(_HEADERS)
    if token is not None:
        headers.append(("Authorization", basic_authorization(user, token)))
    return _enrol(session, "simpleenroll", request, key, now, headers)


def simplereenroll(session, request, key, now):
    """Return the leaf (DER) that follows the one the session presents."""
    return _enrol(session, "simplereenroll", request, key, now, _HEADERS)


def cacerts(session):
    """Return the CA certificates (DER) that the server publishes, unchecked."""
    try:
        response = session.get(_PREFIX + "cacerts")
    finally:
        session.close()
    response.raise_for_status()
    return [bytes(der) for der in _certificates(response)]
