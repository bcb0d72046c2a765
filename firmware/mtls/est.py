# Handfast mTLS for MicroPython: enrolment over secure transport (EST, RFC 7030 with RFC 8951)
# MIT license; Copyright (c) 2026 the Handfast authors

import binascii
import gc

from micropython import const

from .errors import DecodeError, ProtocolError, UnsupportedAlgorithm, Untrusted

PREFIX = "/.well-known/est/"
_PKCS10 = const("application/pkcs10")
PKCS7 = const("application/pkcs7-mime")
_MAX_SKEW_S = const(600)
_LONGEST_LIFE_S = const(157680000)  # five years, the longest of our gateway's
_HEADERS = const((("Content-Type", _PKCS10), ("Content-Transfer-Encoding", "base64")))


def path(session, operation):
    """Return the path of an operation; a base URL with a label (RFC 7030 3.2.2) has the prefix."""
    return ("/" if PREFIX in session.prefix + "/" else PREFIX) + operation


def basic_authorization(user, password):
    text = binascii.b2a_base64((user + ":" + password).encode()).decode()
    return "Basic " + text.replace("\n", "")


def content(response, expected):
    """Return the DER that a response holds in base64."""
    require_type(response, expected)
    return decoded(response.content)


def require_type(response, expected):
    content_type = response.headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() != expected:
        raise ProtocolError("the EST server answered with %s" % (content_type or "no type"))


def decoded(text):
    try:
        return binascii.a2b_base64(text)
    except ValueError:
        raise ProtocolError("the EST server's answer is not base64")


def certificates(response):
    """Return the certificates (DER) of a certs-only response, one at least."""
    from . import pkcs7

    found = pkcs7.certificates(content(response, PKCS7))
    if not found:
        raise ProtocolError("the EST server sent no certificate")
    return found


def check_leaf(leaf, now):
    """Raise Untrusted unless the certificate (parsed) can serve as ours."""
    from .x509 import CLIENT_AUTH, DIGITAL_SIGNATURE

    life_s = leaf.not_after - leaf.not_before
    if leaf.not_before > now + _MAX_SKEW_S or leaf.not_after <= now or life_s > _LONGEST_LIFE_S:
        raise Untrusted(
            "the EST server issued a certificate that is not valid now, or for over five years"
        )
    client = not leaf.eku or CLIENT_AUTH in leaf.eku
    if leaf.is_ca or not client or not leaf.may(DIGITAL_SIGNATURE):
        raise Untrusted("the EST server issued a certificate that is not for a TLS client")


def _find_ours(found, spki, now):
    """Return the one of the certificates that is for our key, checked: some servers add CAs."""
    from .x509 import Certificate

    for der in found:
        try:
            leaf = Certificate(der)
        except (DecodeError, UnsupportedAlgorithm):
            continue  # of a kind that we do not know, so not ours, which may follow
        if leaf.spki == spki:
            check_leaf(leaf, now)
            return bytes(der)
    raise Untrusted("the EST server issued a certificate for another key")


def _enrol(session, operation, request, spki, now, headers, also=None):
    """Return the issued leaf (DER). The session is closed: the next TLS session needs its heap.

    `also()`, which must not raise, is called while it is still open.
    """
    body = binascii.b2a_base64(request)
    try:
        response = session.request(
            "POST", path(session, operation), headers=headers, data=body, idempotent=True
        )
        if also and response.status_code == 200:
            body = None
            also()
    finally:
        session.close()
    response.raise_for_status()
    if response.status_code == 202:
        from .retry import pending

        raise pending("the EST server has not decided yet", response.headers, now)
    if response.status_code != 200:
        raise ProtocolError("the EST server answered %d" % response.status_code)
    found = certificates(response)
    response = None
    gc.collect()
    return _find_ours(found, spki, now)


def simpleenroll(session, request, spki, now, user=None, token=None):
    """Return the leaf (DER) for a first CSR: by one-time token, or by the session's IDevID.

    `spki` is the public key of the request, which the leaf must be for.
    """
    headers = list(_HEADERS)
    if token is not None:
        headers.append(("Authorization", basic_authorization(user, token)))
    try:
        # The connection stays open for the request that follows: this costs one round trip.
        response = session.get(path(session, "csrattrs"))
        from .csrattrs import heed

        heed(response, content)
    except BaseException:
        session.close()
        raise
    return _enrol(session, "simpleenroll", request, spki, now, headers)


def simplereenroll(session, request, spki, now, also=None):
    """Return the leaf (DER) that follows the one the session presents; `also` is as _enrol's."""
    return _enrol(session, "simplereenroll", request, spki, now, _HEADERS, also)
