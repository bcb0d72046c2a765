"""Joining Wi-Fi, against a model of the radio, which no simulated board has."""

import json

import pytest
from device_interpreter import run_script

GOOD = "password of good"


@pytest.mark.parametrize(
    ("configured", "in_reach", "busy", "joined", "tried"),
    [
        ([], {"good": GOOD}, None, "None", []),
        (["good"], {"good": GOOD}, None, "good", ["good"]),
        (["gone", "good"], {"good": GOOD}, None, "good", ["gone", "good"]),
        (["busy", "good"], {"good": GOOD}, "busy", "good", ["busy", "good"]),
    ],
    ids=["none-configured", "first", "second", "after-a-busy-one"],
)
def test_the_first_network_that_works_is_joined_once(
    micropython, tmp_path, configured, in_reach, busy, joined, tried
):
    arguments = [json.dumps(value) for value in (configured, in_reach, busy)]
    lines = run_script(micropython, "wifi.py", *arguments, cwd=tmp_path)
    assert lines == [joined, joined, json.dumps(tried)]


def test_no_network_that_works_is_unreachable_and_names_no_password(micropython, tmp_path):
    arguments = [json.dumps(value) for value in (["good"], {"good": "changed"}, None)]
    lines = run_script(micropython, "wifi.py", *arguments, cwd=tmp_path)
    assert "no network" in lines[0]
    assert "good" in lines[0]
    assert json.loads(lines[2]) == ["good", "good"]
    assert "password" not in "".join(lines)
