"""The example application's reports, on MicroPython, whatever comes instead of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
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
