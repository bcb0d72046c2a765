"""The dialogue's rules, line by line: on the model, on the sketch, and on mutations of both."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mkr_model import MkrModel
from mkr_scenario import walk
from sketch_model import SKETCH, SketchModel, build

HERE = Path(__file__).parent
MUTATIONS = tomllib.loads((HERE / "mkr_mutations.toml").read_text())


def test_the_model_keeps_the_rules() -> None:
    with MkrModel() as board:
        walk(board)


def test_the_sketch_keeps_the_rules(tmp_path: Path) -> None:
    with SketchModel(build(tmp_path)) as board:
        walk(board)


def mutated(source: Path, mutation: dict[str, Any], folder: Path) -> Path:
    text = source.read_text()
    assert text.count(mutation["old"]) == 1, "the mutation is out of date"
    copy = folder / source.name
    copy.write_text(text.replace(mutation["old"], mutation["new"]))
    return copy


@pytest.mark.parametrize("mutation", MUTATIONS["sketch"], ids=lambda mutation: mutation["name"])
def test_a_sketch_that_breaks_a_rule_is_caught(mutation: dict[str, Any], tmp_path: Path) -> None:
    program = build(tmp_path, sketch=mutated(SKETCH, mutation, tmp_path), checked=False)
    with SketchModel(program) as board, pytest.raises(Exception):  # noqa: B017, PT011
        walk(board)


@pytest.mark.parametrize("mutation", MUTATIONS["model"], ids=lambda mutation: mutation["name"])
def test_a_model_that_breaks_a_rule_is_caught(mutation: dict[str, Any], tmp_path: Path) -> None:
    module = loaded(mutated(HERE / "mkr_model.py", mutation, tmp_path))
    with module.MkrModel() as board, pytest.raises(Exception):  # noqa: B017, PT011
        walk(board)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutated_mkr_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
