"""The demo's act about intruders: holds on the real gateway, and finds broken ones out."""

from __future__ import annotations

import json
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from scene_support import break_gateway, empty_stage, play

from handfast.boards.builder import build_simulator
from handfast.lab.demo.intruders.act import intruders
from handfast.lab.demo.intruders.kinds import KINDS
from handfast.lab.demo.report import Report

ALL = "intruders: at least 1,000 attempts, good calls among them"
NO_TRACE = "intruders: a refused attempt leaves no trace"
PROMISES = {f"intruders: {kind.promise}" for kind in KINDS}
TOTALS = (
    *("true_accepts", "true_rejects"),
    *("false_accepts", "false_rejects", "wrong_reasons"),
)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True, scope="module")
def built_simulators() -> None:
    """Build before any clock runs."""
    build_simulator("sim-pico-w")
    build_simulator("sim-esp32")


@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_nobody_gets_in_who_must_not_and_everyone_who_may(profile: str, tmp_path: Path) -> None:
    with empty_stage(tmp_path, profile=profile) as scene:
        checks, report = play(intruders, scene)
        declared = [
            json.loads(line)
            for plan in (scene.folder / "intruders").glob("plan-*.jsonl")
            for line in plan.read_text().splitlines()
        ]
    assert [check for check in checks.values() if not check.passed] == []
    assert set(checks) == {ALL, NO_TRACE, *PROMISES}
    totals = report.totals
    accepts, rejects = totals["true_accepts"], totals["true_rejects"]
    assert isinstance(accepts, int)
    assert isinstance(rejects, int)
    assert totals["attempts"] == accepts + rejects
    assert accepts + rejects >= 1000
    for none in (*TOTALS[2:], "unknown"):
        assert totals[none] == 0
    assert len(declared) >= accepts + rejects


# Broken gateways: (file, what is there, what is there instead, check that finds it, what it says)

BREAKAGES = [
    (
        "authorise.py",
        "if state is DeviceState.SUSPENDED:",
        "if False:",
        {"credential of a suspended device": "it got in"},
    ),
    (
        "authorise.py",
        "if switched_at is None or now >= switched_at + overlap_s:",
        "if switched_at is None:",
        {"leaf after its overlap": "it got in"},
    ),
    (
        "authorise.py",
        "if request.path_device_id not in (None, certificate.device_id):",
        "if False:",
        {"another device's path": "it got in", "forged proxy header": "it got in"},
    ),
    (
        "enrolment.py",
        'return Refusal("token-used")',
        'return Refusal("token-expired")',
        {"used token with another key": "the log says token-expired, not token-used"},
    ),
    (
        "server/tls.py",
        "SSL.OP_NO_TICKET\n    | SSL.OP_NO_RENEGOTIATION",
        "SSL.OP_NO_RENEGOTIATION",
        {"resumed session of a revoked device": "its TLS session was resumed"},
    ),
    (
        "server/refusals.py",
        '("bad signature", "bad-proof-of-possession")',
        '("bad signature", "protocol-error")',
        {"right certificate, another key": "the log says protocol-error"},
    ),
    (
        "requests.py",
        "digest: bytes | None = peer_of(scope).client_certificate_sha256",
        "import base64, hashlib\n"
        "    digest = peer_of(scope).client_certificate_sha256\n"
        "    for name, value in scope['headers']:\n"
        "        if name == b'client-cert':\n"
        "            digest = hashlib.sha256(base64.b64decode(value.strip(b':'))).digest()",
        {"forged proxy header": ""},
    ),
    (
        "context.py",
        "device_id=device.device_id,\n            trust_domain=self.trust_domain,\n"
        "            hardware_id=device.hardware_id,\n            lifetime_s",
        "device_id=x509.load_der_x509_csr(csr.der).subject.rfc4514_string()[3:],\n"
        "            trust_domain=self.trust_domain,\n"
        "            hardware_id=device.hardware_id,\n            lifetime_s",
        {"enrolling as another device": "CN=intruders-neighbour-1", "CSR that is not in order": ""},
    ),
]


def test_every_broken_guard_is_found_out_by_its_own_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight defects in one gateway, and no check fails but those that are about them."""
    # Who gets in leaves something, too.
    expected = {"a refused attempt leaves no trace": ""}
    for name, good, bad, found_by in BREAKAGES:
        break_gateway(tmp_path, monkeypatch, f"gateway/{name}", good, bad)
        expected |= found_by
    with empty_stage(tmp_path) as scene:
        checks, report = play(intruders, scene)
    failed = {name.removeprefix("intruders: "): c for name, c in checks.items() if not c.passed}
    assert set(failed) == set(expected), failed
    for promise, said in expected.items():
        assert said in failed[promise].detail
    for total in TOTALS[2:]:
        found = report.totals[total]
        assert isinstance(found, int)
        assert found > 0


# Gateways that do it first and refuse then: (file, what is there, what is there instead)

ACTS_FIRST = [
    # Telemetry is stored under the path's name, and then authorised.
    (
        "api.py",
        "allowed = await authorised(request, self._gateway)\n        require_content_type",
        "require_content_type",
    ),
    (
        "api.py",
        "device_id = allowed.device.device_id\n        # As",
        'device_id = request.path_params["device_id"]\n        # As',
    ),
    (
        "api.py",
        'return JSONResponse({"stored": await self._gateway.registry.write(store)})',
        "stored = await self._gateway.registry.write(store)\n"
        "        await authorised(request, self._gateway)\n"
        '        return JSONResponse({"stored": stored})',
    ),
    # A re-enrolment is issued and registered, and then authorised.
    (
        "est.py",
        "allowed = decide(request.scope, self._gateway, RequestFacts(Purpose.RE_ENROL))\n"
        "        return await self._enrol_by_certificate(request, allowed.certificate.sha256)",
        "sha256 = certificate_sha256(request.scope) or b''\n"
        "        answer = await self._enrol_by_certificate(request, sha256) if sha256 else None\n"
        "        decide(request.scope, self._gateway, RequestFacts(Purpose.RE_ENROL))\n"
        "        return answer",
    ),
    # A token is bound, and then it is looked at who brought it.
    (
        "est.py",
        "        self._refuse_foreign_certificate(request, device_id)\n        csr",
        "        csr",
    ),
    (
        "est.py",
        "write(enrol)\n        if not",
        "write(enrol)\n"
        "        self._refuse_foreign_certificate(request, device_id)\n        if not",
    ),
]


def test_a_gateway_that_refuses_what_it_has_done_is_found_out_by_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, good, bad in ACTS_FIRST:
        break_gateway(tmp_path, monkeypatch, f"gateway/{name}", good, bad)
    with empty_stage(tmp_path) as scene:
        checks, report = play(intruders, scene)
    assert {name for name, check in checks.items() if not check.passed} == {NO_TRACE}
    said = checks[NO_TRACE].detail.split("; ")
    for pattern in (
        r"\S+neighbour-\d has telemetry \S+ \d+ of another device's path: own leaf",
        r"\S+healthy-\d has ldevid \w+ of wrong kind of certificate at EST: IDevID to re-enrol",
        r"\S+neighbour-\d has bound token \w+",
        r"\S+neighbour-\d has no unused token \w+",
    ):
        assert any(re.fullmatch(pattern, line) for line in said), (pattern, said)
    assert report.totals["false_accepts"] == 0


def test_a_scene_that_ends_meanwhile_ends_the_act_and_everything_that_it_started(
    tmp_path: Path,
) -> None:
    with empty_stage(tmp_path) as scene:
        report = Report()
        told = threading.Event()
        thread = threading.Thread(target=intruders, args=(scene, report, lambda _: told.set()))
        thread.start()
        assert told.wait(60), report.checks
        ours = children()
        scene.close()
        thread.join(20)
        assert not thread.is_alive()
        assert len(ours - children()) >= 4  # three attackers and a board; the gateway stays
    assert not report.checks[0].passed
    assert {"attempts", "unknown", *TOTALS} <= set(report.totals)


def test_an_act_that_cannot_begin_promises_no_figures(tmp_path: Path) -> None:
    with empty_stage(tmp_path) as scene:
        scene.close()
        checks, report = play(intruders, scene)
    assert [check.passed for check in checks.values()] == [False]
    assert report.totals == dict.fromkeys(("attempts", "unknown", *TOTALS))


def children() -> set[str]:
    """Return the processes that this one has started."""
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found.update((task / "children").read_text().split())
    return found
