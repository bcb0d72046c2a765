"""Every kind of intruder, and the good calls among them: what each sends, and what must come of it.

All of it is decided here, before anything is sent. ``n`` counts a wave's attempts of one kind, so
that paths, keys and ways in take turns.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.lab.demo.intruders.attempt import Attempt, Credential, Expected
from handfast.lab.demo.intruders.devices import EST, Device, basic
from handfast.lab.demo.intruders.forge import csr, tampered, weak_key
from handfast.lab.demo.intruders.requests import (
    OWN_PATHS,
    Headers,
    Kind,
    Material,
    api_call,
    by_any_way,
    by_turns,
    enrolment,
    gets_its_names,
    re_enrolment,
    served_as,
)

# Good calls


def _anonymous(_material: Material, n: int) -> Attempt:
    return Attempt("enrol", "GET", EST + by_turns(("cacerts", "csrattrs"), n), Expected())


def _keep_session(material: Material, n: int) -> Attempt:
    device = material.revoked
    name = _session(device, n)
    return Attempt("api", "GET", "/v1/ping", served_as(device), device.leaf, keeps=name)


def _session(device: Device, n: int) -> str:
    return f"{device.device_id} {n}"


_GOOD = "good calls among them"
_KEEP_SESSION = Kind(_GOOD, "a device that will be revoked", _keep_session, before=True)
_GOOD_CALLS = [
    Kind(_GOOD, "API", lambda p, n: api_call(p.healthy, n, served_as(p.healthy), p.healthy.leaf)),
    Kind(
        _GOOD,
        "API, another",
        lambda p, n: api_call(p.neighbour, n, served_as(p.neighbour), p.neighbour.leaf),
    ),
    Kind(_GOOD, "cacerts and csrattrs", _anonymous),
    Kind(
        _GOOD,
        "re-enrolment",
        lambda p, _: re_enrolment(p.neighbour, gets_its_names(p.neighbour), p.neighbour.leaf),
    ),
    Kind(
        _GOOD,
        "enrolment by IDevID",
        lambda p, _: enrolment(p.neighbour, gets_its_names(p.neighbour), p.neighbour.idevid),
    ),
    _KEEP_SESSION,
]


# No certificate, or one that an intruder made


def _forged(promise: str, which: str, at_api: str, at_est: str) -> list[Kind]:
    """Return a forgery at the API and at EST, each with the reason there."""

    def api(material: Material, n: int) -> Attempt:
        return api_call(material.healthy, n, Expected(at_api), by_turns(material.forged[which], n))

    def est(material: Material, n: int) -> Attempt:
        return re_enrolment(material.healthy, Expected(at_est), by_turns(material.forged[which], n))

    return [Kind(promise, f"{which}, at the API", api), Kind(promise, f"{which}, at EST", est)]


def _by_board(material: Material, n: int) -> Attempt:
    pair = by_turns(material.forged["for a board"], n)
    expected = Expected("bad-proof-of-possession")
    return replace(api_call(material.healthy, n, expected, pair), by="board")


_NONE = "no certificate"
_ANOTHER_KEY = "right certificate, another key"
_FORGERIES = [
    Kind(_NONE, "at the API", lambda p, n: api_call(p.healthy, n, Expected("no-certificate"))),
    Kind(_NONE, "at EST", lambda p, _: re_enrolment(p.healthy, Expected("no-certificate"))),
    *_forged("self-signed", "self-signed leaf", "untrusted-issuer", "untrusted-issuer"),
    *_forged("another CA with the same names", "impostor's leaf", "bad-signature", "bad-signature"),
    *_forged("expired", "expired leaf", "certificate-expired", "certificate-expired"),
    *_forged(
        "not yet valid", "early leaf", "certificate-not-yet-valid", "certificate-not-yet-valid"
    ),
    *_forged(
        "server certificate as client", "gateway's leaf", "untrusted-issuer", "untrusted-issuer"
    ),
    *_forged("server certificate as client", "leaf for servers", "wrong-purpose", "wrong-purpose"),
    *_forged(
        "signed with a stolen CA key", "unissued leaf", "unknown-certificate", "unknown-certificate"
    ),
    Kind(_ANOTHER_KEY, "from a board's tls", _by_board),
    *_forged(_ANOTHER_KEY, "copied leaf", "bad-proof-of-possession", "bad-proof-of-possession"),
]


# What a thief of a device has


def _stolen(promise: str, slug: str, whose: Callable[[Material], Device]) -> list[Kind]:
    """Return every credential of a device that is out of favour, at the API and at EST."""
    refused = Expected(slug)

    def token(material: Material) -> tuple[tuple[str, str]]:
        return (basic(whose(material).device_id, whose(material).tokens[0]),)

    return [
        Kind(
            promise, "leaf at the API", lambda p, n: api_call(whose(p), n, refused, whose(p).leaf)
        ),
        Kind(promise, "leaf at EST", lambda p, _: re_enrolment(whose(p), refused, whose(p).leaf)),
        Kind(
            promise,
            "superseded leaf at the API",
            lambda p, n: api_call(whose(p), n, refused, whose(p).superseded),
        ),
        Kind(
            promise,
            "superseded leaf at EST",
            lambda p, _: re_enrolment(whose(p), refused, whose(p).superseded),
        ),
        # The API's listener does not know the CA, and a token is nothing that it would look at.
        Kind(
            promise,
            "IDevID at the API",
            lambda p, n: api_call(whose(p), n, Expected("untrusted-issuer"), whose(p).idevid),
        ),
        Kind(promise, "IDevID at EST", lambda p, _: enrolment(whose(p), refused, whose(p).idevid)),
        Kind(
            promise,
            "token at the API",
            lambda p, n: api_call(whose(p), n, Expected("no-certificate"), headers=token(p)),
        ),
        Kind(promise, "token at EST", lambda p, _: enrolment(whose(p), refused, headers=token(p))),
    ]


def _resume_session(material: Material, n: int) -> Attempt:
    device = material.revoked
    refused = Expected("device-revoked")
    return replace(api_call(device, n, refused, device.leaf), resumes=_session(device, n))


_WRONG_KIND = "wrong kind of certificate at EST"
_PAST_OVERLAP = "leaf after its overlap"
_THEFTS = [
    *_stolen("credential of a revoked device", "device-revoked", lambda p: p.revoked),
    *_stolen("credential of a suspended device", "device-suspended", lambda p: p.suspended),
    Kind("resumed session of a revoked device", "at the API", _resume_session, needs=_KEEP_SESSION),
    Kind(
        _PAST_OVERLAP,
        "at the API",
        lambda p, n: api_call(
            p.overdue, n, Expected("certificate-superseded"), p.overdue.superseded
        ),
    ),
    Kind(
        _PAST_OVERLAP,
        "at EST",
        lambda p, _: re_enrolment(
            p.overdue, Expected("certificate-superseded"), p.overdue.superseded
        ),
    ),
    Kind(
        _WRONG_KIND,
        "IDevID to re-enrol",
        lambda p, _: re_enrolment(p.healthy, Expected("wrong-certificate-kind"), p.healthy.idevid),
    ),
    Kind(
        _WRONG_KIND,
        "leaf to enrol",
        lambda p, _: enrolment(p.healthy, Expected("wrong-certificate-kind"), p.healthy.leaf),
    ),
    Kind(
        "IDevID at the API",
        "of a healthy device",
        lambda p, n: api_call(p.healthy, n, Expected("untrusted-issuer"), p.healthy.idevid),
    ),
]


# A device that wants to be another


def _onto_its_path(material: Material, n: int, headers: Headers = ()) -> Attempt:
    expected = Expected("not-your-path")
    leaf = material.healthy.leaf
    return api_call(material.neighbour, n, expected, leaf, headers=headers, paths=OWN_PATHS)


def _token_with_another_key(material: Material, _n: int) -> Attempt:
    device = material.healthy
    token = basic(device.device_id, device.used_token)
    return enrolment(device, Expected("token-used"), headers=(token,))


def _token_of_another(material: Material, _n: int) -> Attempt:
    """The neighbour's token, under one's own name."""
    token = basic(material.healthy.device_id, material.neighbour.tokens[0])
    return enrolment(material.healthy, Expected("token-unknown"), headers=(token,))


def _token_over(certificate: Callable[[Device], Credential]) -> Callable[[Material, int], Attempt]:
    """The neighbour's token under its name, from who proves to be somebody else."""

    def make(material: Material, _n: int) -> Attempt:
        other = material.neighbour
        token = basic(other.device_id, other.tokens[0])
        own = certificate(material.healthy)
        return enrolment(other, Expected("not-your-path"), own, headers=(token,))

    return make


_AS_ANOTHER = "enrolling as another device"
_PRETENCES = [
    Kind("another device's path", "own leaf", _onto_its_path),
    Kind("used token with another key", "own token", _token_with_another_key),
    Kind(_AS_ANOTHER, "its token, own name", _token_of_another),
    Kind(_AS_ANOTHER, "its token over own leaf", _token_over(lambda d: d.leaf)),
    Kind(_AS_ANOTHER, "its token over own IDevID", _token_over(lambda d: d.idevid)),
    # Names are not asked for, they are given: these get a certificate of their own device.
    Kind(
        _AS_ANOTHER,
        "its name in the CSR, own leaf (ignored)",
        lambda p, _: re_enrolment(p.neighbour, gets_its_names(p.healthy), p.healthy.leaf),
    ),
    Kind(
        _AS_ANOTHER,
        "its name in the CSR, own IDevID (ignored)",
        lambda p, _: enrolment(p.neighbour, gets_its_names(p.healthy), p.healthy.idevid),
    ),
]


# Requests that are not in order


# Each token is good for one key; refused requests bring others, which must stay unused.
_SUBJECT_TOKENS, _SAN_TOKENS, _REFUSED_TOKENS = slice(0, 2), slice(2, 4), slice(4, None)


def _refused(device: Device, n: int, request: bytes, slug: str) -> Attempt:
    return by_any_way(device, n, request, Expected(slug), device.tokens[_REFUSED_TOKENS])


def _tampered_csr(material: Material, n: int) -> Attempt:
    request = tampered(csr(material.healthy.device_id), n)
    return _refused(material.healthy, n // 3, request, "csr-signature")


def _weak_csr(material: Material, n: int) -> Attempt:
    request = csr(material.healthy.device_id, key=weak_key(n // 2))
    return _refused(material.healthy, n, request, "csr-weak-key")


def _foreign_subject(material: Material, n: int) -> Attempt:
    device = material.healthy
    request = csr(by_turns(("root", "Handfast device CA", material.neighbour.device_id), n))
    return by_any_way(device, n, request, gets_its_names(device), device.tokens[_SUBJECT_TOKENS])


def _foreign_san(material: Material, n: int) -> Attempt:
    device = material.healthy
    request = csr(device.device_id, uri=by_turns((material.neighbour.uri, "spiffe://x/admin"), n))
    return by_any_way(device, n, request, gets_its_names(device), device.tokens[_SAN_TOKENS])


_CSR = "CSR that is not in order"
_REQUESTS = [
    Kind(_CSR, "tampered signature", _tampered_csr),
    Kind(_CSR, "weak key", _weak_csr),
    Kind(_CSR, "foreign subject (ignored)", _foreign_subject),
    Kind(_CSR, "foreign SAN (ignored)", _foreign_san),
]


# Headers that only a proxy may send


def _proxy_headers(device: Device, n: int) -> Headers:
    """Return what proxies say of a client's certificate, with another's (RFC 9440 and older)."""
    der = device.leaf.certificate
    pem = quote(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode())
    rfc9440 = f":{base64.b64encode(der).decode()}:"
    said = (
        (("client-cert", rfc9440), ("client-cert-chain", rfc9440)),
        (("x-ssl-client-cert", pem), ("x-ssl-client-verify", "SUCCESS")),
        (("x-forwarded-client-cert", f'Cert="{pem}";URI={device.uri}'),),
        (("x-client-cert", pem), ("x-client-dn", f"CN={device.device_id}")),
    )
    return (*by_turns(said, n), ("forwarded", "for=127.0.0.1;proto=https"))


_PROXY = "forged proxy header"
_HEADERS = [
    Kind(
        _PROXY,
        "no certificate, at the API",
        lambda p, n: api_call(
            p.healthy, n, Expected("no-certificate"), headers=_proxy_headers(p.healthy, n)
        ),
    ),
    Kind(
        _PROXY,
        "no certificate, at EST",
        lambda p, n: re_enrolment(
            p.healthy, Expected("no-certificate"), headers=_proxy_headers(p.healthy, n)
        ),
    ),
    Kind(
        _PROXY,
        "own leaf, another's path",
        lambda p, n: _onto_its_path(p, n, _proxy_headers(p.neighbour, n)),
    ),
    Kind(
        _PROXY,
        "own leaf, own path (ignored)",
        lambda p, n: api_call(
            p.healthy,
            n,
            served_as(p.healthy),
            p.healthy.leaf,
            headers=_proxy_headers(p.neighbour, n),
        ),
    ),
]

KINDS = (*_FORGERIES, *_THEFTS, *_PRETENCES, *_REQUESTS, *_HEADERS, *_GOOD_CALLS)
