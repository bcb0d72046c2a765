"""The plan of the demo's intruders: of each kind enough, mixed, settled beforehand, no secrets."""

from __future__ import annotations

import json
import math
import secrets
import ssl
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from handfast.errors import CheckFailed
from handfast.lab.demo.intruders.act import until_judged
from handfast.lab.demo.intruders.attempt import Answer, Attempt, Expected, Names
from handfast.lab.demo.intruders.devices import Device
from handfast.lab.demo.intruders.forge import (
    Forger,
    csr,
    key_passed_off_as,
    pair,
    tampered,
    weak_key,
)
from handfast.lab.demo.intruders.judge import Finding, Outcome
from handfast.lab.demo.intruders.kinds import KINDS
from handfast.lab.demo.intruders.plan import make_plan, next_numbers
from handfast.lab.demo.intruders.requests import Material
from handfast.pki.authorities import load_authority
from handfast.pki.csr import CsrError, parse_csr
from support_pki import PASSPHRASE, TRUST_DOMAIN, make_state
from support_server_pki import pem, pki


@pytest.fixture(scope="module")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Forger:
    state = make_state(tmp_path_factory.mktemp("forger"))
    issuing = {name: load_authority(state, name, PASSPHRASE) for name in ("device", "server")}
    return Forger(issuing, TRUST_DOMAIN)


@pytest.fixture(scope="module")
def material(forger: Forger) -> Material:
    held = pki().device

    def device(name: str) -> Device:
        pairs = [
            pair(f"{name} {what}", held.certificate, held.key, ends=ends)
            for what, ends in (("leaf", 1000.0), ("superseded", 900.0), ("idevid", math.inf))
        ]
        used, *unused = (secrets.token_hex(8) for _ in range(6))
        return Device(name, f"spiffe://x/device/{name}", *pairs, used, unused, 0.0)

    roles = ("healthy", "neighbour", "overdue", "revoked", "suspended")
    devices = {role: device(role) for role in roles}
    return Material(**devices, forged=forger.forge("healthy", devices["healthy"].leaf))


@pytest.fixture(scope="module")
def attempts(material: Material) -> list[Attempt]:
    numbers = next_numbers({}, wanted=21, most=7)
    return list(make_plan(numbers, material, Random(1), first=100).attempts)  # noqa: S311


# How many


def test_three_waves_make_more_than_a_thousand_attempts_and_twenty_of_each_kind() -> None:
    judged: Counter[str] = Counter()
    waves = 0
    while numbers := next_numbers(judged, wanted=21, most=7):
        judged.update(numbers)
        waves += 1
    assert waves == 3
    assert judged.total() > 1000
    assert set(judged.values()) == {21}
    assert set(judged) == {kind.title for kind in KINDS}


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.title for kind in KINDS}) == len(KINDS)


def test_only_what_is_missing_is_made_again_with_the_sessions_that_it_resumes() -> None:
    resuming = next(kind for kind in KINDS if kind.needs is not None)
    assert resuming.needs is not None
    judged = {kind.title: 21 for kind in KINDS} | {resuming.title: 19}
    again = next_numbers(judged, wanted=21, most=7)
    assert again == {resuming.title: 2, resuming.needs.title: 2}


def made(numbers: dict[str, int], outcome: Outcome) -> list[Finding]:
    return [
        Finding(Attempt("api", "GET", "/", Expected(), kind=title), outcome)
        for title, number in numbers.items()
        for _ in range(number)
    ]


def test_late_attempts_are_made_again_in_smaller_waves() -> None:
    asked: list[dict[str, int]] = []

    def wave(numbers: Mapping[str, int]) -> list[Finding]:
        asked.append(dict(numbers))
        outcome = Outcome.TOO_LATE if len(asked) == 1 else Outcome.TRUE_REJECT
        return made(asked[-1], outcome)

    counted = Counter(f.attempt.kind for wave in until_judged(wave) for f in wave if f.counts)
    assert set(counted.values()) == {21}
    assert [max(numbers.values()) for numbers in asked] == [7, 3, 3, 3, 3, 3, 3, 3]


def test_a_machine_that_is_always_late_ends_the_act() -> None:
    waves = until_judged(lambda numbers: made(dict(numbers), Outcome.TOO_LATE), within_s=0.05)
    with pytest.raises(CheckFailed, match="not done within"):
        list(waves)


# What


def test_attempts_are_numbered_mixed_and_of_both_tls_versions(attempts: list[Attempt]) -> None:
    assert sorted(a.number for a in attempts) == list(range(100, 100 + len(attempts)))
    after = [a for a in attempts if not a.keeps]
    for version in ("1.2", "1.3"):
        assert sum(a.tls == version for a in attempts) > len(attempts) / 3
    neighbours = sum(a.kind == b.kind for a, b in pairwise(after))
    assert neighbours < len(after) / 10
    first_half = after[: len(after) // 2]
    assert (
        0.3
        < sum(a.expected.accept for a in first_half) / sum(a.expected.accept for a in after)
        < 0.7
    )


def test_who_resumes_a_session_is_who_kept_it(attempts: list[Attempt]) -> None:
    kept = {a.keeps: a for a in attempts if a.keeps}
    resumed = [a for a in attempts if a.resumes]
    assert len(resumed) == len(kept) == 7
    for attempt in resumed:
        first = kept[attempt.resumes]
        assert (attempt.turn, attempt.tls) == (first.turn, first.tls)
        assert attempt.credential == first.credential


def test_what_uses_a_short_lived_leaf_says_until_when(attempts: list[Attempt]) -> None:
    stolen = [a for a in attempts if a.kind == "credential of a revoked device: leaf at the API"]
    assert {a.use_before for a in stolen} == {999.0}
    assert {a.use_before for a in attempts if a.credential is None} == {math.inf}


def test_an_order_says_what_to_send_and_nothing_of_what_is_expected(
    attempts: list[Attempt],
) -> None:
    for attempt in attempts:
        read = Attempt.from_order(attempt.order())
        for name in ("number", "listener", "method", "path", "headers", "body", "tls", "resumes"):
            assert getattr(read, name) == getattr(attempt, name)
        assert read.expected == Expected()
        assert (read.credential is None) == (attempt.credential is None)
        if read.credential is not None and attempt.credential is not None:
            assert read.credential.key == attempt.credential.key
        if attempt.expected.reason:
            assert attempt.expected.reason not in attempt.order()


def test_the_declaration_says_what_is_expected_and_no_secret(
    attempts: list[Attempt], material: Material
) -> None:
    declared = [attempt.declaration() for attempt in attempts]
    reasons = {json.loads(line)["expected"] for line in declared}
    assert {"accept", "device-revoked", "certificate-expired", "token-used"} <= reasons
    secret = [material.healthy.used_token, *material.healthy.tokens, *material.neighbour.tokens]
    assert not any(token in line for token in secret for line in declared)
    assert not any("authorization" in line or "key" in json.loads(line) for line in declared)
    shown = [
        repr(attempts),
        repr(material.healthy.leaf),
        repr(material.healthy),
        repr(material.neighbour),
    ]
    assert not any(token in text for token in secret for text in shown)
    encoded = [value for a in attempts for name, value in a.headers if name == "authorization"]
    assert encoded
    assert not any(header in text for header in encoded for text in shown)
    assert "b'" not in repr(material.healthy.leaf)


def test_an_answer_survives_the_pipe() -> None:
    answer = Answer(7, "127.77.0.1:1", 200, issued=Names("CN=a", ("UniformResourceIdentifier:x",)))
    assert Answer.from_line(answer.line()) == answer
    refused = Answer(8, "127.77.0.1:2", error="tlsv1 alert unknown ca", resumed=True, at=1.5)
    assert Answer.from_line(refused.line()) == refused


# Forgeries


@pytest.mark.parametrize("how", range(6))
def test_a_tampered_request_is_whole_but_for_its_signature(how: int) -> None:
    with pytest.raises(CsrError) as caught:
        parse_csr(tampered(csr("board-1"), how))
    assert caught.value.slug == "csr-signature"


@pytest.mark.parametrize("how", range(2))
def test_a_weak_key_is_what_is_wrong_with_a_request_for_it(how: int) -> None:
    with pytest.raises(CsrError) as caught:
        parse_csr(csr("board-1", key=weak_key(how)))
    assert caught.value.slug == "csr-weak-key"


def test_a_key_is_passed_off_as_another_to_openssl_alone(tmp_path: Path) -> None:
    certificate = pki().device.certificate
    key = key_passed_off_as(certificate)
    two = tmp_path / "two.pem"
    two.write_text(ssl.DER_cert_to_PEM_cert(key).replace("CERTIFICATE", "PRIVATE KEY"))
    with two.open("a") as file:
        file.write(pem(certificate))
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(two)
    with pytest.raises(ValueError, match=r"."):
        load_der_private_key(key, None)


def test_forgeries_of_an_impostor_carry_the_genuine_names(material: Material) -> None:
    genuine, fake = (
        x509.load_der_x509_certificate(material.forged[what][0].certificate)
        for what in ("unissued leaf", "impostor's leaf")
    )
    assert (genuine.subject, genuine.issuer) == (fake.subject, fake.issuer)
    identifier = x509.AuthorityKeyIdentifier
    assert genuine.extensions.get_extension_for_class(
        identifier
    ) == fake.extensions.get_extension_for_class(identifier)
