"""The models keep to their public sources, and would fail a test if they did not."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import bootsel_model
import bootsel_rules
import esp_rom_model
import esp_rules
import pytest

_FOLDER = Path(__file__).parent
MODELS = {"esp_rom": (esp_rom_model, esp_rules), "bootsel": (bootsel_model, bootsel_rules)}
MUTATIONS = [
    pytest.param(name, mutation, id=f"{name}: {mutation['name']}")
    for name in MODELS
    for mutation in tomllib.loads((_FOLDER / f"{name}_mutations.toml").read_text())["mutation"]
]
SCENARIOS = [
    pytest.param(module, scenario, id=scenario.__name__)
    for module, rules in MODELS.values()
    for scenario in rules.SCENARIOS
]


@pytest.mark.parametrize(("module", "scenario"), SCENARIOS)
def test_the_model_keeps_the_rule(module: ModuleType, scenario: Callable[[ModuleType], None]):
    scenario(module)


@contextmanager
def mutant(module: ModuleType, old: str, new: str) -> Iterator[ModuleType]:
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, "it must stand in the model, once"
    made = ModuleType(f"{module.__name__}_mutant")
    sys.modules[made.__name__] = made  # where dataclasses look their types up
    try:
        exec(compile(source.replace(old, new), made.__name__, "exec"), made.__dict__)  # noqa: S102
        yield made
    finally:
        del sys.modules[made.__name__]


@pytest.mark.parametrize(("name", "mutation"), MUTATIONS)
def test_a_model_that_errs_breaks_a_rule(name: str, mutation: dict[str, str]):
    module, rules = MODELS[name]
    with mutant(module, mutation["old"], mutation["new"]) as made:
        for scenario in rules.SCENARIOS:
            try:
                scenario(made)
            except Exception:
                return
    pytest.fail("no scenario noticed")


@pytest.mark.parametrize("name", MODELS)
def test_there_are_ten_mutations_and_more(name: str):
    assert sum(param.values[0] == name for param in MUTATIONS) >= 10
