"""Acts at once: whatever one does, the others are heard, and silence is no success."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.errors import HandfastError
from handfast.lab.demo.performance import Performance
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Act, Scene, SceneOver, Tell
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.state import StateDir

WITHIN_S = 20.0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A scene whose gateway nobody starts."""
    state = StateDir(tmp_path / "state")
    gateway = GatewayProcess(state, b"", GatewayOptions())
    scene = Scene("sim-pico-w", 15, 2, "test.example", tmp_path, b"", state, gateway)
    yield scene
    scene.close()


def good(_scene: Scene, report: Report, tell: Tell) -> None:
    tell("at work")
    with report.check("good") as seen:
        seen.append("all of it")
    report.totals["good"] = 1


def silent(_scene: Scene, _report: Report, _tell: Tell) -> None:
    pass


def surprised(_scene: Scene, report: Report, _tell: Tell) -> None:
    with report.check("surprised") as seen:
        seen.append(str([][0]))


def broken(_scene: Scene, report: Report, _tell: Tell) -> None:
    with report.check("before it broke") as seen:
        seen.append("something")
    raise ValueError("an answer of a kind that nobody expected")


def refused(_scene: Scene, report: Report, _tell: Tell) -> None:
    with report.check("refused"):
        raise HandfastError("no")


def played(scene: Scene, acts: dict[str, Act]) -> Report:
    performance = Performance(scene, acts)
    deadline = time.monotonic() + WITHIN_S
    while not performance.over:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    whole = Report()
    for report in performance.reports():
        whole.absorb(report)
    return whole


def test_checks_and_totals_come_in_the_acts_order(scene: Scene) -> None:
    whole = played(scene, {"refused": refused, "good": good})
    assert [(check.name, check.passed) for check in whole.checks] == [
        ("refused", False),
        ("good", True),
    ]
    assert whole.totals == {"good": 1}


@pytest.mark.parametrize("act", [silent, surprised, broken])
def test_an_act_that_checks_nothing_or_breaks_fails_and_hides_no_other(
    scene: Scene, act: Act
) -> None:
    whole = played(scene, {"other": act, "good": good})
    assert not whole.passed
    assert [check.passed for check in whole.checks][-1]
    assert any(not check.passed and check.detail for check in whole.checks)


def test_an_act_that_hangs_has_failed_and_ends_with_its_scene(scene: Scene) -> None:
    waiting = threading.Event()

    def hangs(scene: Scene, _report: Report, tell: Tell) -> None:
        tell("waits")
        waiting.set()
        scene.pause(3600)

    performance = Performance(scene, {"hangs": hangs, "good": good})
    assert waiting.wait(WITHIN_S)
    assert not performance.over
    first = performance.reports()[0]
    assert [(check.name, check.passed) for check in first.checks] == [("hangs", False)]
    assert "waits" in first.checks[0].detail
    scene.close()
    performance.end()
    assert performance.over
    with pytest.raises(SceneOver):
        scene.pause(0.01)
