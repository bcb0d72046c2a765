"""What the demo's intruders leave behind, held against the plan: on made-up devices and rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from handfast.gateway.rows import spki_sha256
from handfast.lab.demo.intruders.attempt import Attempt, Expected
from handfast.lab.demo.intruders.devices import Device, basic
from handfast.lab.demo.intruders.forge import pair
from handfast.lab.demo.intruders.judge import Finding, Outcome
from handfast.lab.demo.intruders.requests import (
    OWN_PATHS,
    api_call,
    enrolment,
    gets_its_names,
    served_as,
    with_row,
)
from handfast.lab.demo.intruders.trace import left_by, stored_trace, trace_complaints
from support_server_pki import issue

Row = dict[str, Any]

MADE = [issue(name, None) for name in ("leaf", "superseded", "idevid")]
LEAF, SUPERSEDED, IDEVID = (pair("it", made.certificate, made.key) for made in MADE)
DEVICE = Device("a", "spiffe://x/device/a", LEAF, SUPERSEDED, IDEVID, "used", ("one", "two"), 0.0)
TELEMETRY = 2  # api_call() for a device's own paths: every other two


def call(number: int, expected: Expected) -> Attempt:
    attempt = api_call(DEVICE, TELEMETRY, expected, LEAF, paths=OWN_PATHS)
    return with_row(replace(attempt, number=number, kind="call"))


def with_token(token: str, expected: Expected) -> Attempt:
    attempt = enrolment(DEVICE, expected, headers=(basic("a", token),))
    return replace(attempt, kind="enrolment")


GOOD_CALL = Finding(call(1, served_as(DEVICE)), Outcome.TRUE_ACCEPT)
BAD_CALL = Finding(call(2, Expected("not-your-path")), Outcome.TRUE_REJECT)
GOOD_ENROLMENT = Finding(with_token("one", gets_its_names(DEVICE)), Outcome.TRUE_ACCEPT)
BAD_ENROLMENT = Finding(with_token("two", Expected("csr-weak-key")), Outcome.TRUE_REJECT)
FINDINGS = [GOOD_CALL, BAD_CALL, GOOD_ENROLMENT, BAD_ENROLMENT]


def row(number: int) -> Row:
    return {"boot_id": "intruders", "seq": number, "values": {}}


def certificate(kind: str, key: str) -> Row:
    return {"kind": kind, "spki_sha256": key}


def registered(kind: str, number: int) -> Row:
    return certificate(kind, spki_sha256(MADE[number].certificate).hex())


def issued_to(finding: Finding) -> Row:
    ((kind, key),) = left_by(finding.attempt)
    return certificate(kind, key)


def token(text: str, *, bound: bool = False, used: float | None = None) -> Row:
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bound": bound, "used": used}


SET_UP = [registered("ldevid", 0), registered("ldevid", 1), registered("idevid", 2)]
LEAVES = [*SET_UP, issued_to(GOOD_ENROLMENT)]
USED = token("used", bound=True, used=1.0)
TOKENS = [USED, token("one", bound=True), token("two")]


def complaints(
    certificates: Sequence[Row] = LEAVES,
    tokens: Sequence[Row] = TOKENS,
    rows: Sequence[Row] = (row(1),),
    findings: Sequence[Finding] = FINDINGS,
) -> list[tuple[str, str]]:
    stored = stored_trace({"certificates": certificates, "tokens": tokens}, rows)
    return [(c.what, c.sender) for c in trace_complaints(DEVICE, findings, stored)]


def test_what_good_calls_leave_is_no_complaint() -> None:
    assert complaints() == []


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ({"rows": [row(1), row(2)]}, [("has telemetry", "call")]),
        ({"rows": [row(1), {**row(1), "boot_id": "b"}]}, [("has telemetry", "")]),
        ({"rows": []}, [("has no telemetry", "")]),
        ({"certificates": [*LEAVES, issued_to(BAD_ENROLMENT)]}, [("has ldevid", "enrolment")]),
        ({"certificates": [*LEAVES, LEAVES[-1]]}, [("has ldevid", "enrolment")]),
        ({"certificates": [*LEAVES, certificate("idevid", "ab")]}, [("has idevid", "")]),
        ({"certificates": SET_UP}, [("has no ldevid", "")]),
        (
            {"tokens": [*TOKENS[:2], token("two", bound=True)]},
            [("has bound token", ""), ("has no unused token", "")],
        ),
        (
            {"tokens": [USED, token("one", bound=True, used=1.0), TOKENS[2]]},
            [("has used token", ""), ("has no bound token", "")],
        ),
        ({"tokens": TOKENS[:2]}, [("has no unused token", "")]),
        ({"tokens": [*TOKENS, token("another")]}, [("has unused token", "")]),
    ],
)
def test_whatever_else_is_stored_or_missing_is_one(
    stored: dict[str, list[Row]], complaint: list[tuple[str, str]]
) -> None:
    assert complaints(**stored) == complaint


def test_a_good_call_that_met_no_answer_may_have_been_served_or_not() -> None:
    lost = [Finding(f.attempt, Outcome.UNKNOWN) for f in (GOOD_CALL, GOOD_ENROLMENT)]
    assert complaints(findings=lost) == []
    not_served = {"certificates": SET_UP, "rows": [], "tokens": [USED, token("one"), TOKENS[2]]}
    assert complaints(findings=lost, **not_served) == []
    assert complaints(findings=lost, rows=[row(1), row(1)]) == [("has telemetry", "call")]


def test_what_was_done_as_another_device_does_not_count() -> None:
    other = replace(GOOD_CALL.attempt, expected=Expected(device_id="b"))
    findings = [Finding(other, Outcome.TRUE_ACCEPT), *FINDINGS[1:]]
    assert complaints(findings=findings) == [("has telemetry", "call")]


def test_a_complaint_says_whose_thing_it_is_and_who_sent_it() -> None:
    stored = stored_trace({"certificates": LEAVES, "tokens": TOKENS}, [row(1), row(2)])
    (complaint,) = trace_complaints(DEVICE, FINDINGS, stored)
    assert str(complaint) == "a has telemetry intruders 2 of call"
