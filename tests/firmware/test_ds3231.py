"""The clock chip with a battery: its registers, and what a board believes of it."""

import contextlib
import json
from types import ModuleType

import pytest
from device_interpreter import run_script
from ds3231_model import Ds3231Model
from hypothesis import given
from hypothesis import strategies as st
from mtls import ds3231
from mtls.errors import ClockNotSet, ConfigError, MTLSError

SETTINGS = {"chip": "ds3231", "i2c": 0, "scl": 5, "sda": 4}
T = 1795492904
IN_2000_TO_2099 = st.integers(946684800, 4102444799)


@pytest.fixture
def chip(monkeypatch, device_modules):
    model = Ds3231Model()
    machine = ModuleType("machine_model")
    machine.Pin = lambda number: ("pin", number)
    machine.I2C = lambda bus, **pins: model if (bus, pins["scl"][1]) == (0, 5) else None
    monkeypatch.setitem(device_modules, "machine", machine)
    return model


@given(IN_2000_TO_2099)
def test_every_time_comes_back_as_it_was(unix):
    assert ds3231.parse(ds3231.pack(unix)) == unix


@given(IN_2000_TO_2099)
def test_the_chip_of_the_data_sheet_agrees(unix):
    assert ds3231.parse(bytes(Ds3231Model(unix).registers())) == unix


@given(st.binary(min_size=7, max_size=7))
def test_noise_raises_nothing_but_our_errors(registers):
    with contextlib.suppress(MTLSError):
        assert 946684800 <= ds3231.parse(registers) < 4102444800 + 3 * 86400


def test_a_chip_that_was_never_set_has_no_time_and_then_keeps_it(chip):
    with pytest.raises(ClockNotSet, match="battery"):
        ds3231.read(SETTINGS)
    ds3231.write(SETTINGS, T)
    chip.advance(86400)
    assert ds3231.read(SETTINGS) == T + 86400
    assert chip.status == 0x08, "only OSF was cleared"
    chip.lose_power()
    with pytest.raises(ClockNotSet, match="battery"):
        ds3231.read(SETTINGS)


def test_a_chip_of_another_make_or_mode_is_none(chip):
    ds3231.write(SETTINGS, T)
    chip.twelve_hours = True
    with pytest.raises(ClockNotSet, match="another chip"):
        ds3231.read(SETTINGS)


@pytest.mark.parametrize("do", [ds3231.read, lambda settings: ds3231.write(settings, T)])
def test_a_chip_that_is_not_there_is_a_clear_error(chip, do):
    chip.answers = False
    with pytest.raises(ClockNotSet, match="wiring"):
        do(SETTINGS)


@pytest.mark.parametrize(
    "change", [{"chip": "pcf8563"}, {"chip": None}, {"i2c": "0"}, {"scl": None}, {"sda": -1}]
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ConfigError, match="rtc"):
        ds3231.read({**SETTINGS, **change})


@pytest.mark.parametrize("wrong", [None, [], "ds3231", True])
def test_settings_of_another_kind_are_refused(wrong):
    with pytest.raises(ConfigError, match="rtc"):
        ds3231.read(wrong)


@pytest.mark.parametrize(
    ("chip_says", "believed"),
    [("floor+60", True), ("floor-1", False), ("floor+3601", False)],
    ids=["between", "before", "beyond"],
)
def test_an_agent_takes_it_as_a_hint_between_floor_and_leafs_end(
    micropython, tmp_path, chip_says, believed
):
    root = tmp_path / "store"
    root.mkdir()
    config = {"schema": 1, "device_id": "d", "api_url": "https://h", "enrol_url": "https://h"}
    config |= {"trust_domain": "t", "rtc": SETTINGS}
    (root / "config.json").write_text(json.dumps(config))
    arguments = (chip_says, "floor+3600", str(root))
    (line,) = run_script(micropython, "agent_clock_chip.py", *arguments, cwd=tmp_path)
    told = json.loads(line)
    assert told["believed"] is believed
    assert told["source"] == ("rtc" if believed else None)
    assert told["floor_rose"] is False
    assert told["set_after_signed_time"] is True
