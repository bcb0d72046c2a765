"""The driver of the secure element keeps to the chip's rules, and would fail if it did not."""

import importlib.util
import tomllib
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import pytest
from cryptography import x509
from device_interpreter import DEVICE_SCRIPTS

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


def test_unchanged_driver_fails_no_scenario():
    assert failures(mutant("", "")) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation["name"])
def test_a_driver_that_errs_fails_a_scenario(mutation):
    old, new = mutation["old"], mutation["new"]
    assert SOURCE.count(old) == 1, "it must stand in the driver, once"
    assert failures(mutant(old, new))
