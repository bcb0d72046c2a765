"""The demo's act about CRL and OCSP: holds on the real gateway, fails on those that lag or lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_support import break_gateway, empty_stage, play

from handfast.errors import EnvironmentProblem
from handfast.lab.demo.report import Report
from handfast.lab.demo.revocation_status import revocation_status

RESPONDERS = "revocation status: responders are delegated, one question each"
BEFORE = "revocation status: good and unknown are told apart"
WITHIN_A_SECOND = "revocation status: CRL and OCSP know within a second"


def test_openssl_knows_within_a_second(tmp_path: Path) -> None:
    with empty_stage(tmp_path) as scene:
        checks, _ = play(revocation_status, scene)
    assert list(checks) == [RESPONDERS, BEFORE, WITHIN_A_SECOND]
    for check in checks.values():
        assert check.passed, check.detail


@pytest.mark.parametrize(
    ("name", "good", "bad", "failed"),
    [
        (
            "gateway/public.py",
            "if kept and same and now",
            "if kept and now",
            WITHIN_A_SECOND,
        ),
        (
            "gateway/ocsp.py",
            "if revocation := view.revocation(*key):",
            "if (revocation := view.revocation(*key)) and revocation.revoked_at < 9:",
            WITHIN_A_SECOND,
        ),
        ("gateway/ocsp.py", "        return Unknown()\n", "        return Good()\n", BEFORE),
        (
            "pki/issue.py",
            "x509.OCSPNoCheck()",
            "x509.PolicyConstraints(None, 0)",
            RESPONDERS,
        ),
    ],
    ids=["a list kept", "OCSP forgets", "OCSP says good to all", "responder to be checked"],
)
def test_a_gateway_that_lags_or_lies_is_found_out(
    name: str,
    good: str,
    bad: str,
    failed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_gateway(tmp_path, monkeypatch, name, good, bad)
    with empty_stage(tmp_path) as scene:
        checks, _ = play(revocation_status, scene)
    assert {check.name for check in checks.values() if not check.passed} == {failed}


def test_a_missing_openssl_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with empty_stage(tmp_path) as scene:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EnvironmentProblem, match="apt-get install openssl"):
            revocation_status(scene, Report(), lambda _: None)
