"""The example application's reports, on MicroPython, whatever comes instead of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from device_interpreter import run_script

from handfast.resources import firmware_dir

Steps = Callable[..., list[tuple[int, list[list[Any]]]]]
PING, CONFIG, TELEMETRY = "/v1/ping", "/v1/devices/d/config", "/v1/devices/d/telemetry"


@pytest.fixture
def steps(micropython: Path, tmp_path: Path) -> Steps:
    def run(*outcomes: object, interval_s: int = 7) -> list[tuple[int, list[list[Any]]]]:
        application = str(firmware_dir() / "app")
        arguments = (application, str(interval_s), json.dumps(outcomes))
        lines = run_script(micropython, "reporter.py", *arguments, cwd=tmp_path)
        return [tuple(json.loads(line)) for line in lines]

    return run


@pytest.mark.parametrize("failure", ["Unreachable", "Refused", "MemoryError"])
def test_a_report_is_sent_by_its_number_until_it_is_acknowledged(
    steps: Steps, failure: str
) -> None:
    told = steps({}, failure, failure, {}, {})
    assert [call for _, calls in told for call in calls] == [
        [PING, None],
        [TELEMETRY, 1],
        [TELEMETRY, 1],
        [TELEMETRY, 1],
        [TELEMETRY, 2],
    ]
    assert [wait_ms for wait_ms, _ in told[2:]] == [7000, 7000]


@pytest.mark.parametrize("failure", ["Unreachable", "Refused", "MemoryError"])
def test_the_first_call_backs_off_too(steps: Steps, failure: str) -> None:
    waits = [wait_ms for wait_ms, _ in steps(*[failure] * 14)]
    assert all(1000 <= wait_ms <= 60_000 for wait_ms in waits)
    assert all(wait_ms >= 30_000 for wait_ms in waits[8:])


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"telemetry_interval_s": 90}, 90),
        ({}, 5),
        ([], 5),
        ({"telemetry_interval_s": 0}, 5),
        ({"telemetry_interval_s": "9"}, 5),
        ({"telemetry_interval_s": 10**9}, 5),
    ],
)
def test_the_gateway_sets_the_interval_that_the_configuration_leaves_open(
    steps: Steps, settings: object, seconds: int
) -> None:
    told = steps({}, settings, {}, {}, interval_s=0)
    assert told[0] == (seconds * 1000, [[PING, None], [CONFIG, None], [TELEMETRY, 1]])
    assert told[1] == (seconds * 1000, [[TELEMETRY, 2]])


@pytest.mark.parametrize("failure", ["Unreachable", "MemoryError"])
def test_trust_anchors_are_reported_once_a_leaf_and_until_it_is_acknowledged(
    micropython: Path, tmp_path: Path, failure: str
) -> None:
    outcomes = json.dumps([{}, failure, {}, "renewed", failure, {}, {}])
    arguments = (str(firmware_dir() / "app"), "7", outcomes, "anchors")
    *_, line = run_script(micropython, "reporter.py", *arguments, cwd=tmp_path)
    held = {"tls": ["t"], "root": ["r"]}
    # A ping, then a report that is sent twice, one more at whose answer the leaf is another.
    assert json.loads(line) == [None, held, held, None, held, held, None]


# ---- Its watchdog, over the model's time: tests/firmware/network_model.py ----

PATIENCE_S = 120
REPORT_S, STEP_S = 5, 15  # of the board's telemetry, of its agent
BITES_S = 10  # the chip's own timeout, and the timer's second
LONGEST_RETRY_S = 60
ON_FLASH = {
    "schema": 1,
    "device_id": "d",
    "api_url": "https://gateway/",
    "enrol_url": "https://gateway/",
    "trust_domain": "test",
    "telemetry_interval_s": REPORT_S,
    "networks": ["home"],
}


@dataclass
class Told:
    reset_at: int | None
    made: list[int]  # WDT, Timer
    runs: int
    reports: int


Life = Callable[..., Told]


@pytest.fixture(params=[False, True], ids=["wdt-starts-once", "wdt-starts-again"])
def life(request: pytest.FixtureRequest, micropython: Path, tmp_path: Path) -> Life:
    def run(*happenings: object, until_s: int = 900, watchdog_s: int = PATIENCE_S) -> Told:
        config = ON_FLASH | {"watchdog_s": watchdog_s}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "life.json").write_text(json.dumps([happenings, until_s, request.param]))
        arguments = (str(firmware_dir() / "app"), str(tmp_path))
        *_, line = run_script(micropython, "application_life.py", *arguments, cwd=tmp_path)
        return Told(*json.loads(line))

    return run


@pytest.mark.parametrize("missing", ["network", "agent", "step", "leaf", "reports"])
def test_a_board_that_never_gets_anywhere_is_reset_when_its_patience_ends(
    life: Life, missing: str
) -> None:
    told = life((0, {missing: False}))
    assert told.reset_at is not None, "fed for ever"
    assert PATIENCE_S <= told.reset_at <= PATIENCE_S + BITES_S
    assert told.made == [1, 1]
    assert told.reports == 0
    assert (told.runs > 1) == (missing in {"network", "agent", "step"})


@pytest.mark.parametrize("missing", ["step", "leaf", "reports", "config"])
def test_patience_begins_with_the_last_report_that_was_taken(life: Life, missing: str) -> None:
    # Only a run that ends has the application read its configuration again.
    told = life((300, {missing: False, "step": missing not in {"step", "config"}}))
    assert told.reset_at is not None, "fed for ever"
    soonest = 300 + PATIENCE_S - REPORT_S
    assert soonest <= told.reset_at <= soonest + REPORT_S + STEP_S + BITES_S
    assert told.made == [1, 1]


def test_a_board_that_reports_is_fed_whatever_ends_its_runs_in_between(life: Life) -> None:
    errors = [[(at_s, {"step": False}), (at_s + 20, {"step": True})] for at_s in range(90, 800, 90)]
    told = life(*[happening for pair in errors for happening in pair])
    assert told.reset_at is None
    assert told.made == [1, 1]
    assert told.runs > 8
    assert told.reports > 50


def test_a_board_whose_configuration_is_read_late_has_its_watchdog_from_then_on(life: Life) -> None:
    read_at = 400
    told = life((0, {"config": False, "network": False}), (read_at, {"config": True}))
    assert told.reset_at is not None, "fed for ever"
    soonest = read_at + PATIENCE_S
    assert soonest <= told.reset_at <= soonest + LONGEST_RETRY_S + BITES_S
    assert told.made == [1, 1]


@pytest.mark.parametrize(("missing", "watchdog_s"), [("config", PATIENCE_S), ("network", 0)])
def test_without_a_configuration_that_asks_for_it_there_is_no_watchdog(
    life: Life, missing: str, watchdog_s: int
) -> None:
    told = life((0, {missing: False}), watchdog_s=watchdog_s)
    assert told.reset_at is None
    assert told.made == [0, 0]
    assert told.runs > 5
