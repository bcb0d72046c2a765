"""The driver of the secure element keeps to the chip's rules, and would fail if it did not."""

import importlib.util
import tomllib
from collections.abc import MutableMapping
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from device_interpreter import DEVICE_SCRIPTS
from mtls import atecc
from mtls.errors import ConfigError

from handfast.resources import firmware_dir

_FILE = Path(__file__).parent / "atecc_mutations.toml"
MUTATIONS = tomllib.loads(_FILE.read_text(encoding="utf-8"))["mutation"]
SOURCE = (firmware_dir() / "mtls" / "atecc.py").read_text(encoding="utf-8")


@cache
def scenarios() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "secure_element_scenarios", DEVICE_SCRIPTS / "secure_element.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_driver_keeps_to_the_chips_rules(run_device):
    *passed, request = run_device("secure_element.py")
    assert passed == [scenario.__name__ for scenario in scenarios().SCENARIOS]
    assert x509.load_der_x509_csr(bytes.fromhex(request)).is_signature_valid


def mutant(old: str, new: str) -> ModuleType:
    module = ModuleType("mtls.atecc_mutant")
    module.__package__ = "mtls"
    code = compile(SOURCE.replace(old, new) if old else SOURCE, "mutant of atecc.py", "exec")
    exec(code, module.__dict__)  # noqa: S102
    return module


def failures(driver: ModuleType) -> list[str]:
    found = []
    for scenario in scenarios().SCENARIOS:
        try:
            scenario(partial(scenarios().Rig, driver=driver))
        except Exception:
            found.append(scenario.__name__)
    return found


@pytest.mark.only_cpython  # boards run them by themselves
def test_unchanged_driver_fails_no_scenario():
    assert failures(mutant("", "")) == []


@pytest.mark.only_cpython  # of changed source, which a board does not load
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation["name"])
def test_a_driver_that_errs_fails_a_scenario(mutation):
    old, new = mutation["old"], mutation["new"]
    assert SOURCE.count(old) == 1, "it must stand in the driver, once"
    assert failures(mutant(old, new))


CHIP = {"i2c": 0, "scl": 5, "sda": 4, "slots": {"a": 2, "b": 3}}


@pytest.fixture
def buses(
    monkeypatch: pytest.MonkeyPatch, device_modules: MutableMapping[str, Any]
) -> list[dict[str, int]]:
    """What machine.I2C was asked for."""
    asked: list[dict[str, int]] = []
    machine = ModuleType("machine")
    machine.Pin = lambda number: number
    machine.I2C = lambda bus, **options: asked.append({"bus": bus, **options})
    monkeypatch.setitem(device_modules, "machine", machine)
    return asked


def test_a_secure_element_is_opened_as_config_json_says(buses):
    element = atecc.open_chip({**CHIP, "address": 0x36})
    assert buses == [{"bus": 0, "scl": 5, "sda": 4, "freq": 100000}]
    assert element._address == 0x36
    assert atecc.open_chip(CHIP)._address == 0x60
    assert element.fresh_key("idevid") is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"i2c": None}, "i2c"),
        ({"i2c": True}, "i2c"),
        ({"scl": -1}, "scl"),
        ({"sda": "4"}, "sda"),
        ({"address": 0}, "address"),
        ({"address": 0x78}, "address"),
        ({"slots": None}, "slots for a, b"),
        ({"slots": {"a": 2}}, "slots for a, b"),
        ({"slots": {"a": 2, "b": 3, "c": 4}}, "slots for a, b"),
        ({"slots": {"a": 2, "b": 2}}, "a slot twice"),
        ({"slots": {"a": 2, "b": 16}}, "b must be"),
    ],
)
def test_settings_that_make_no_sense_open_no_bus(buses, changes, named):
    with pytest.raises(ConfigError, match=named):
        atecc.open_chip({**CHIP, **changes})
    assert buses == []


@pytest.mark.parametrize("settings", [None, [0], 7, "chip"])
def test_settings_that_are_no_object_open_no_bus(buses, settings):
    with pytest.raises(ConfigError, match="secure_element must have"):
        atecc.open_chip(settings)
    assert buses == []
