"""The EST client on MicroPython: against a server that keeps to RFC 7030, and against liars."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from device_interpreter import run_script
from device_pki import SERVER_AUTH, encoded, rsa_key
from est_peer import (
    CERTS_ONLY,
    CLIENT_AUTH,
    HOUR,
    EstPeer,
    ca,
    certs_only,
    csrattrs,
    device_ca,
    enrol_with,
    issue,
    response,
    root_ca,
    server_ca,
    tls_context,
)
from hostile_peer import Peer, drip, serving
from mtls import der

from handfast.gateway.service import MAX_DEVICE_LIFETIME_S

NOW = datetime.now(UTC)
LONGEST_S = 86_400
FIVE_YEARS = timedelta(days=5 * 365)
NO_CERTIFICATE = der.sequence(
    der.oid("1.2.840.113549.1.7.2"),
    der.tlv(
        0xA0,
        der.sequence(
            der.integer(1),
            der.tlv(der.SET),
            der.sequence(der.oid("1.2.840.113549.1.7.1")),
            der.tlv(der.SET),
        ),
    ),
)
RSA_WANTED = der.sequence(der.oid("1.2.840.113549.1.1.1"))
CONFIG = {"schema": 1, "device_id": "d", "api_url": "https://h", "trust_domain": "t"}
Est = Callable[..., list[object]]


@pytest.fixture
def est(micropython: Path, tmp_path: Path) -> Est:
    """Runs one exchange of a board that holds an anchor, or a fingerprint in place of it."""

    def run(
        peer: Peer,
        what: str = "enrol",
        *,
        issuer: str = "server",
        sha256: str = "",
        timeout_ms: int = 10_000,
        path: str = "",
    ) -> list[object]:
        root = tmp_path / "mtls"
        root.mkdir(exist_ok=True)
        with serving(peer, context=tls_context(tmp_path, issuer)) as (port, connections):
            url = f"https://127.0.0.1:{port}{path}"
            config = {**CONFIG, "enrol_url": url, "root_sha256": sha256}
            (root / "config.json").write_text(json.dumps(config))
            if not sha256:
                (root / "anchor").mkdir()
                (root / "anchor/tls-0.der").write_bytes(encoded(server_ca()))
                (root / "anchor/root-0.der").write_bytes(encoded(root_ca()))
            arguments = (str(root), url, str(timeout_ms), what, "d", "t0ken")
            (line,) = run_script(micropython, "est_client.py", *arguments, cwd=tmp_path)
            run.connections = len(connections)
        return json.loads(line)

    return run


# ---- Enrolment ----


def test_csrattrs_are_asked_for_on_the_connection_that_enrols(est: Est) -> None:
    peer = EstPeer()
    assert est(peer)[0] == "leaf"
    assert peer.operations() == ["csrattrs", "simpleenroll"]
    assert est.connections == 1
    assert "Authorization" not in peer.heard[0]
    assert "Authorization" in peer.heard[1]


def test_a_renewal_does_not_ask_again(est: Est) -> None:
    peer = EstPeer()
    assert est(peer, "renew")[0] == "leaf"
    assert peer.operations() == ["simplereenroll"]


@pytest.mark.parametrize(
    "none",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        response(status="404 Not Found"),
        response(status="401 Unauthorized"),
        response(kind="application/csrattrs"),
    ],
    ids=["204", "404", "401", "empty"],
)
def test_a_server_without_csrattrs_is_enrolled_at_all_the_same(est: Est, none: bytes) -> None:
    assert est(EstPeer(csrattrs=none))[0] == "leaf"


def test_csrattrs_that_ask_for_rsa_end_it_before_the_token_goes_out(est: Est) -> None:
    peer = EstPeer(csrattrs=csrattrs(RSA_WANTED))
    outcome = est(peer)
    assert outcome[:2] == ["UnsupportedAlgorithm", "the EST server wants another kind of key"]
    assert peer.operations() == ["csrattrs"]


@pytest.mark.parametrize(
    "wrong",
    [
        response(b"MAA=", "text/html"),
        response(b"====", "application/csrattrs"),
        csrattrs(b"\x30\x80\x00\x00"),
        csrattrs(der.sequence(*[der.oid("1.2.3")] * 40)),
    ],
    ids=["html", "no-base64", "no-der", "too-many"],
)
def test_csrattrs_that_make_no_sense_are_a_protocol_error(est: Est, wrong: bytes) -> None:
    assert est(EstPeer(csrattrs=wrong))[0] in ("ProtocolError", "DecodeError")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 7\r\n", 7),
        ("", 60),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 60),
        ("Retry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\n", LONGEST_S),
        ("Retry-After: 99999999999999999999\r\n", LONGEST_S),
        ("Retry-After: soon\r\n", 60),
    ],
    ids=["seconds", "none", "past", "future", "absurd", "words"],
)
@pytest.mark.parametrize("what", ["enrol", "renew"])
def test_an_answer_that_is_still_pending_says_when_to_ask_again(
    est: Est, what: str, header: str, seconds: int
) -> None:
    later = response(b"", status="202 Accepted", headers=header)
    outcome = est(EstPeer(enrol=lambda _: later), what)
    assert outcome == ["Pending", "the EST server has not decided yet", seconds]


@pytest.mark.parametrize(
    ("header", "seconds"), [("Retry-After: 5\r\n", 5), ("", 0), ("Retry-After: soon\r\n", 0)]
)
@pytest.mark.parametrize("kind", ["application/problem+json", "text/html"])
def test_a_refusal_says_when_to_ask_again(est: Est, kind: str, header: str, seconds: int) -> None:
    busy = response(b'{"type": "urn:x"}', kind, "503 Service Unavailable", header)
    outcome = est(EstPeer(enrol=lambda _: busy))
    assert outcome == ["Refused", 503, "urn:x" if "json" in kind else None, seconds]


def test_a_leaf_among_ca_certificates_is_found(est: Est) -> None:
    assert est(EstPeer(enrol=enrol_with(device_ca(), root_ca())))[0] == "leaf"


def test_a_leaf_of_five_years_is_taken(est: Est) -> None:
    begins = datetime.now(UTC) - HOUR
    changes = {"not_before": begins, "not_after": begins + FIVE_YEARS}
    assert est(EstPeer(enrol=enrol_with(**changes)))[0] == "leaf"


def test_no_leaf_of_our_own_gateway_is_too_long() -> None:
    from mtls.est import _LONGEST_LIFE_S

    assert _LONGEST_LIFE_S == MAX_DEVICE_LIFETIME_S == FIVE_YEARS.total_seconds()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "for another key"),
        ({"ca": True}, "not for a TLS client"),
        ({"not_after": NOW - HOUR / 60}, "not valid now"),
        ({"not_before": NOW + HOUR, "not_after": NOW + 2 * HOUR}, "not valid now"),
        ({"not_after": NOW}, "not valid now"),
        ({"not_after": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)}, "five years"),
        ({"not_after": NOW + FIVE_YEARS + HOUR / 60}, "five years"),
        ({"not_before": NOW - FIVE_YEARS, "not_after": NOW + HOUR}, "five years"),
        ({"eku": [SERVER_AUTH]}, "not for a TLS client"),
        ({"digital_signature": False}, "not for a TLS client"),
    ],
    ids=[
        *["another-key", "ca", "over", "future", "zero"],
        *["for-ever", "too-long", "too-long-by-its-past", "server", "no-signature"],
    ],
)
def test_a_leaf_that_cannot_serve_is_refused(
    est: Est, changes: dict[str, object], why: str
) -> None:
    outcome = est(EstPeer(enrol=enrol_with(**changes)))
    assert outcome[0] == "Untrusted"
    assert why in str(outcome[1])


@pytest.mark.parametrize(
    "wrong",
    [
        response(b"", CERTS_ONLY),
        response(b"AAAA", "text/html"),
        response(b"A", CERTS_ONLY),
        response(b"MIAwgAAAAAA=", CERTS_ONLY),
        certs_only([root_ca()] * 9),
        response(base64.b64encode(NO_CERTIFICATE)),
        response(b"A" * 20_000, CERTS_ONLY),
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500,
        response(b"MIAwgAAA")[:-2],
        response(b"", status="302 Found", headers="Location: /elsewhere\r\n"),
        b"\x00" * 64,
    ],
    ids=[
        "empty",
        "html",
        "no-base64",
        "indefinite",
        "nine",
        "no-certificate",
        "long",
        "endless-headers",
        "short-body",
        "redirect",
        "noise",
    ],
)
@pytest.mark.parametrize("what", ["enrol", "cacerts"])
def test_an_answer_that_breaks_the_protocol_is_named(est: Est, what: str, wrong: bytes) -> None:
    def serve(connection: object) -> None:
        EstPeer(cacerts=wrong, enrol=lambda _: wrong)(OneAnswer(connection))

    ended = est(serve, what, timeout_ms=1500)[0]
    # CA certificates of which there are none say nothing of our anchors.
    assert ended in ("ProtocolError", "DecodeError", "Unreachable", 0)


class OneAnswer:
    """A connection that is closed behind an answer that is no csrattrs."""

    def __init__(self, connection: object) -> None:
        self._connection = connection
        self._over = False

    def recv(self, size: int) -> bytes:
        return b"" if self._over else self._connection.recv(size)

    def sendall(self, data: bytes) -> None:
        self._over = b"csrattrs" not in data
        self._connection.sendall(data)


def test_an_answer_of_a_byte_at_a_time_ends_at_the_deadline(est: Est) -> None:
    def slow(connection: object) -> None:
        connection.recv(4096)
        drip(connection, csrattrs())

    assert est(slow, timeout_ms=1000)[0] == "Unreachable"


def test_the_agent_leaves_a_server_alone_for_as_long_as_it_asks(
    micropython: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "enrol_url": "https://h"}))
    arguments = (str(tmp_path), "120", "0", "86400")
    (line,) = run_script(micropython, "agent_waits.py", *arguments, cwd=tmp_path)
    unreachable, long, at_once, a_day = json.loads(line)
    assert unreachable < 2_000
    assert long == 120_000
    assert at_once < 10_000
    assert a_day == 86_400_000


@pytest.mark.parametrize("base", ["", "/proxy", "/.well-known/est", "/.well-known/est/devices"])
def test_an_est_server_may_have_a_label(est: Est, base: str) -> None:
    root = root_ca()
    peer = EstPeer(cacerts=certs_only([root, server_ca()]))
    assert est(peer, "bootstrap", sha256=fingerprint(root), path=base)[0] == "leaf"
    assert peer.operations() == ["cacerts", "csrattrs", "simpleenroll"]
    folder = base if "est" in base else base + "/.well-known/est"
    targets = {head.split(" ")[1].rpartition("/")[0] for head in peer.heard}
    assert targets == {folder}


def test_a_certificate_that_nobody_knows_does_not_hide_ours_behind_it(est: Est) -> None:
    strange = bytearray(encoded(root_ca()))
    assert strange[8:13] == bytes.fromhex("a003020102"), "the version"
    strange[12] = 9
    leaf: list[bytes] = []

    def enrol(body: bytes) -> bytes:
        leaf.append(encoded(issue(body)))
        certificates = der.tlv(0xA0, bytes(strange) + leaf[0])
        signed = (der.integer(1), der.tlv(der.SET), der.sequence(der.oid("1.2.840.113549.1.7.1")))
        message = der.sequence(
            der.oid("1.2.840.113549.1.7.2"),
            der.tlv(0xA0, der.sequence(*signed, certificates, der.tlv(der.SET))),
        )
        return response(base64.b64encode(message))

    assert est(EstPeer(enrol=enrol)) == ["leaf", len(leaf[0])]


# ---- CA certificates ----


def test_of_cacerts_only_server_cas_below_a_held_root_may_be_anchors(est: Est) -> None:
    published = certs_only([root_ca(), server_ca(), device_ca(), ca("strange", "strange").make()])
    assert est(EstPeer(cacerts=published), "cacerts") == [4, 1]


# ---- Bootstrap by fingerprint ----


def fingerprint(certificate: object) -> str:
    return hashlib.sha256(encoded(certificate)).hexdigest()


def test_a_board_with_a_fingerprint_fetches_its_anchors_and_enrols(
    est: Est, tmp_path: Path
) -> None:
    root, server = root_ca(), server_ca()
    peer = EstPeer(cacerts=certs_only([root, server, device_ca()]))
    assert est(peer, "bootstrap", sha256=fingerprint(root))[0] == "leaf"
    assert peer.operations() == ["cacerts", "csrattrs", "simpleenroll"]
    assert est.connections == 2, "once unverified, then anew"
    kept = sorted(path.read_bytes() for path in (tmp_path / "mtls/anchor").iterdir())
    assert kept == sorted([encoded(root), encoded(server)])


@pytest.mark.parametrize(
    ("published", "why"),
    [
        (lambda _: [root_ca("other"), server_of("other")], "root_sha256"),
        (lambda root: [root], "no server CA"),
        (lambda root: [root, server_of("other")], "no server CA"),
        (lambda root: [root, forged_server_ca()], "no server CA"),
        (lambda root: [root, server_ca(eku=[CLIENT_AUTH])], "no server CA"),
        (lambda root: [root, server_ca(eku=[])], "no server CA"),
        (lambda root: [root, server_ca(ca=False)], "no server CA"),
        (lambda root: [root, server_ca(not_after=NOW - HOUR / 2)], "no server CA"),
        (lambda root: [root, device_ca()], "no server CA"),
    ],
    ids=[
        "other-root",
        "none",
        "not-below",
        "forged",
        "client",
        "no-eku",
        "no-ca",
        "over",
        "device",
    ],
)
def test_a_liar_gets_one_request_and_no_secret(
    est: Est, tmp_path: Path, published: Callable[..., list[object]], why: str
) -> None:
    root = root_ca()
    peer = EstPeer(cacerts=certs_only(published(root)))
    outcome = est(peer, "bootstrap", sha256=fingerprint(root))
    assert outcome[0] == "Untrusted"
    assert why in str(outcome[1])
    assert peer.operations() == ["cacerts"]
    assert not any("t0ken" in head or "Authorization" in head for head in peer.heard)
    assert not (tmp_path / "mtls/anchor").exists()


def test_nobody_knows_who_tells_a_board_without_an_anchor_to_stay_away(est: Est) -> None:
    peer = EstPeer(cacerts=response(b"", "", "503 Service Unavailable", "Retry-After: 86400\r\n"))
    outcome = est(peer, "bootstrap", sha256=fingerprint(root_ca()))
    assert outcome == ["Refused", 503, None, 0]


def server_of(root: str) -> object:
    return ca("server", root, eku=[SERVER_AUTH]).make()


def forged_server_ca() -> object:
    """A `server` CA that names the root as its issuer, signed by another key."""
    return replace(ca("server", eku=[SERVER_AUTH]), issuer_key=rsa_key("other")).make()


@pytest.mark.parametrize("issuer", ["device", "other"])
def test_a_server_below_another_ca_is_sent_nothing_after_the_right_certificates(
    est: Est, issuer: str
) -> None:
    root = root_ca()
    peer = EstPeer(cacerts=certs_only([root, server_ca(), device_ca()]))
    outcome = est(peer, "bootstrap", issuer=issuer, sha256=fingerprint(root))
    assert outcome[0] == "Untrusted"
    assert peer.operations() == ["cacerts"]
