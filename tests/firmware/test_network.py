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


# ---- Over time: tests/firmware/network_model.py ----

LAN8720 = {"ethernet": "LAN8720", "mdc": 23, "mdio": 18, "phy_addr": 1, "power": 16}
WIZNET5K = {"ethernet": "WIZNET5K", "spi": 0, "cs": 17, "reset": 20}


def in_reach(*ssids):
    return {ssid: f"password of {ssid}" for ssid in ssids}


def life(micropython, tmp_path, networks, happenings, until_ms):
    """Return (changes as [ms, name], the SSIDs tried, power saving around a handshake)."""
    arguments = [json.dumps(value) for value in (networks, happenings, until_ms)]
    (line,) = run_script(micropython, "network_life.py", *arguments, cwd=tmp_path)
    return json.loads(line)


def test_a_network_that_is_lost_is_joined_again_and_the_radio_wakes_for_handshakes(
    micropython, tmp_path
):
    happenings = [[0, in_reach("a"), False], [9000, {}, False], [14_000, in_reach("a"), False]]
    changes, tried, pm = life(micropython, tmp_path, ["a"], happenings, 40_000)
    assert [name for _, name in changes] == ["a", None, "a"]
    assert changes[0][0] < 2_000
    assert 9_000 <= changes[1][0] <= 10_000
    assert changes[2][0] < 16_000
    assert set(tried) == {"a"}
    assert pm == [1, 0, 1], "PM_PERFORMANCE, PM_NONE, and as before"


def test_the_next_network_takes_over_from_one_that_stays_away(micropython, tmp_path):
    happenings = [[0, in_reach("a", "b"), False], [5000, in_reach("b"), False]]
    changes, tried, _ = life(micropython, tmp_path, ["a", "b"], happenings, 40_000)
    assert [name for _, name in changes] == ["a", None, "b"]
    assert changes[2][0] - changes[1][0] < 20_000
    assert tried == ["a", "a", "b"]


def test_rounds_without_a_network_come_ever_more_slowly(micropython, tmp_path):
    _, tried, _ = life(micropython, tmp_path, ["a"], [], 600_000)
    # 15 s each, and pauses that grow from half a second to a minute.
    assert 8 <= len(tried) <= 16


def test_ethernet_goes_first_and_wifi_steps_in(micropython, tmp_path):
    happenings = [[0, in_reach("a"), True], [5000, in_reach("a"), False]]
    changes, tried, _ = life(micropython, tmp_path, [LAN8720, "a"], happenings, 60_000)
    assert [name for _, name in changes] == ["ethernet", None, "a"]
    assert tried == ["a"]


@pytest.mark.parametrize("port", [LAN8720, WIZNET5K], ids=["esp32", "rp2"])
def test_a_cable_that_is_plugged_in_late_is_noticed(micropython, tmp_path, port):
    changes, _, pm = life(micropython, tmp_path, [port], [[60_000, {}, True]], 200_000)
    assert [name for _, name in changes] == ["ethernet"]
    assert pm == [1], "an Ethernet port has nothing to wake"


@pytest.mark.parametrize(
    ("patience_s", "every_s", "reset"),
    [(60, 5, None), (60, 60, None), (60, 75, True), (60, 0, True), (5, 0, True)],
)
@pytest.mark.parametrize("numbered", [False, True], ids=["virtual-timers", "numbered-timers"])
def test_a_watchdog_bites_where_no_progress_is_made(
    micropython, tmp_path, patience_s, every_s, reset, numbered
):
    arguments = [json.dumps(value) for value in (patience_s, every_s, 300, numbered)]
    (line,) = run_script(micropython, "watchdog_life.py", *arguments, cwd=tmp_path)
    reset_at = json.loads(line)
    if reset:
        assert patience_s < reset_at <= patience_s + 9
    else:
        assert reset_at is None
