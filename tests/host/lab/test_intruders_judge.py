"""The judge of the demo's intruders, on made-up answers and log lines."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handfast.lab.demo.intruders.attempt import Answer, Attempt, Credential, Expected, Names
from handfast.lab.demo.intruders.judge import Finding, Outcome, judge
from handfast.lab.demo.intruders.log import GatewayLog

PEER = "127.77.0.1:4711"
OWN = Names("CN=a", ("UniformResourceIdentifier:spiffe://x/device/a",))
FOREIGN = Names("CN=b", ("UniformResourceIdentifier:spiffe://x/device/b",))
ENDS = 1000.0

INTRUDER = Attempt("api", "GET", "/v1/ping", Expected("device-revoked"), number=1, kind="k: n")
CALL = replace(INTRUDER, expected=Expected(device_id="a"))
ENROLMENT = replace(INTRUDER, expected=Expected(device_id="a", issued=OWN))

TURNED_AWAY = Answer(1, PEER, 403, "device-revoked", at=1.0)
CUT_OFF = Answer(1, PEER, error="tlsv1 alert unknown ca", at=1.0)
SERVED = Answer(1, PEER, 200, at=1.0)

REVOKED = {"event": "request", "status": 403, "slug": "device-revoked", "device_id": "a"}
OK = {"event": "request", "status": 200, "device_id": "a"}
UNTRUSTED = {"event": "tls_refused", "reason": "untrusted-issuer"}


def finding(attempt: Attempt, answer: Answer, *lines: dict[str, Any]) -> Finding:
    (found,) = judge([attempt], {1: answer}, {("api", PEER): lines})
    return found


@pytest.mark.parametrize(
    ("attempt", "answer", "line", "outcome"),
    [
        (INTRUDER, TURNED_AWAY, REVOKED, Outcome.TRUE_REJECT),
        (replace(INTRUDER, expected=Expected("untrusted-issuer")), CUT_OFF, UNTRUSTED,
         Outcome.TRUE_REJECT),
        (CALL, SERVED, OK, Outcome.TRUE_ACCEPT),
        (ENROLMENT, replace(SERVED, issued=OWN), OK, Outcome.TRUE_ACCEPT),
    ],
)  # fmt: skip
def test_what_was_expected_is_true_and_without_complaint(
    attempt: Attempt, answer: Answer, line: dict[str, Any], outcome: Outcome
) -> None:
    assert finding(attempt, answer, line) == Finding(attempt, outcome)


@pytest.mark.parametrize(
    ("attempt", "answer", "line", "outcome", "complaint"),
    [
        (INTRUDER, SERVED, OK, Outcome.FALSE_ACCEPT, "got in"),
        # Either side's word is enough.
        (INTRUDER, TURNED_AWAY, OK, Outcome.FALSE_ACCEPT, "got in"),
        (INTRUDER, SERVED, REVOKED, Outcome.FALSE_ACCEPT, "got in"),
        (INTRUDER, CUT_OFF, UNTRUSTED, Outcome.WRONG_REASON, "says untrusted-issuer, not device-r"),
        (INTRUDER, replace(TURNED_AWAY, problem="not-found"), REVOKED, Outcome.WRONG_REASON,
         "was told not-found"),
        (INTRUDER, replace(TURNED_AWAY, resumed=True), REVOKED, Outcome.WRONG_REASON, "resumed"),
        (CALL, TURNED_AWAY, REVOKED, Outcome.FALSE_REJECT, "it was refused"),
        (CALL, CUT_OFF, OK, Outcome.FALSE_REJECT, "unknown ca"),
        (CALL, SERVED, {**OK, "device_id": "b"}, Outcome.FALSE_ACCEPT, "served as 'b'"),
        (ENROLMENT, replace(SERVED, issued=FOREIGN), OK, Outcome.FALSE_ACCEPT, "CN=b"),
        (ENROLMENT, SERVED, OK, Outcome.FALSE_ACCEPT, "was given None"),
    ],
)  # fmt: skip
def test_what_was_not_expected_is_named_and_complained_of(
    attempt: Attempt, answer: Answer, line: dict[str, Any], outcome: Outcome, complaint: str
) -> None:
    found = finding(attempt, answer, line)
    assert found.outcome is outcome
    assert complaint in found.complaint
    assert found.complaint in str(found)


@pytest.mark.parametrize(("attempt", "answer"), [(INTRUDER, TURNED_AWAY), (CALL, SERVED)])
@pytest.mark.parametrize("lines", [0, 2])
def test_an_attempt_without_exactly_one_line_in_the_log_is_not_known(
    attempt: Attempt, answer: Answer, lines: int
) -> None:
    line = REVOKED if answer is TURNED_AWAY else OK
    found = finding(attempt, answer, *[line] * lines)
    assert found.outcome is Outcome.UNKNOWN
    assert f"{lines} lines" in found.complaint
    assert found.counts


def test_a_line_of_another_listener_or_peer_does_not_count() -> None:
    for connection in (("enrol", PEER), ("api", "127.77.0.1:4712")):
        (found,) = judge([INTRUDER], {1: TURNED_AWAY}, {connection: [REVOKED]})
        assert found.outcome is Outcome.UNKNOWN


def test_an_attempt_that_was_not_made_is_not_known() -> None:
    (found,) = judge([INTRUDER], {}, {})
    assert (found.outcome, found.complaint) == (Outcome.UNKNOWN, "it was not made")


def late(attempt: Attempt) -> Attempt:
    return replace(attempt, credential=Credential("leaf", b"", b"", ends=ENDS))


@pytest.mark.parametrize(
    ("attempt", "answer", "line"),
    [
        (INTRUDER, CUT_OFF, {"event": "tls_refused", "reason": "certificate-expired"}),
        (CALL, CUT_OFF, {"event": "tls_refused", "reason": "certificate-expired"}),
    ],
)
def test_what_a_leaf_met_after_its_end_counts_for_nothing(
    attempt: Attempt, answer: Answer, line: dict[str, Any]
) -> None:
    found = finding(late(attempt), replace(answer, at=ENDS), line)
    assert (found.outcome, found.complaint, found.counts) == (Outcome.TOO_LATE, "", False)
    found = finding(late(attempt), replace(answer, at=ENDS - 10), line)
    assert found.complaint


def test_a_late_intruder_that_got_in_is_not_excused() -> None:
    found = finding(late(INTRUDER), replace(SERVED, at=2 * ENDS), OK)
    assert found.outcome is Outcome.FALSE_ACCEPT


# Where the lines come from


def test_the_log_gives_each_connection_its_lines_and_passes_over_others(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    path.write_text(json.dumps({**OK, "listener": "api", "peer": PEER}) + "\n")  # before our time
    log = GatewayLog(path, "127.77.0.")
    served = {**OK, "listener": "api", "peer": PEER}
    refused = {**UNTRUSTED, "listener": "enrol", "peer": PEER}
    others = [{**served, "peer": "127.0.0.1:4711"}, {**served, "event": "write_timeout"}]
    with path.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in (*others, served)))
        half = json.dumps(refused) + "\n"
        file.write(half[:20])

    def more(_seconds: float) -> None:  # the log grows while it is waited for
        with path.open("a") as file:
            file.write(half[20:])

    wanted = [("api", PEER), ("enrol", PEER)]
    assert log.wait_for(wanted, more) == {wanted[0]: [served], wanted[1]: [refused]}


def test_a_line_that_never_comes_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handfast.lab.demo.intruders.log._LOG_WITHIN_S", 0.05)
    path = tmp_path / "gateway.log"
    path.touch()
    assert GatewayLog(path, "127.77.0.").wait_for([("api", PEER)], time.sleep) == {}
