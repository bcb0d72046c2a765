"""docs/reference names every public name of the device's library."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from mtls.config import parse_config

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "firmware" / "mtls"
REFERENCE = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
# What applications import; the modules below are the library's own business.
PUBLIC = {
    "agent": {"Agent"},
    "aio": {"Session"},
    "client": {"Session"},
    "errors": None,  # all of it
    "net": None,
    "pin": {"spki_sha256"},
    "ssl": None,
    "store": {"Store"},
    "loading": {"preload"},
}
# Of classes that applications use, what other modules of the library call.
INTERNAL = {"read_into", "read_whole"}


def public_names(module: str) -> set[str]:
    """Return the public functions and classes of a module, and the classes' public methods."""
    names = set()
    for node in ast.parse((LIBRARY / f"{module}.py").read_text("utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        wanted = PUBLIC[module]
        if node.name.startswith("_") or (wanted is not None and node.name not in wanted):
            continue
        names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    return {name for name in names if not name.startswith("_")} - INTERNAL


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    missing = [n for n in sorted(public_names(module)) if not re.search(rf"\b{n}\b", REFERENCE)]
    assert not missing


def test_every_example_is_in_the_reference() -> None:
    examples = [path.name for path in (LIBRARY.parent / "examples").glob("*.py")]
    assert len(examples) >= 4
    assert [name for name in examples if name not in REFERENCE] == []


def test_every_key_of_the_configuration_is_in_the_reference() -> None:
    given = {"schema": 1, "device_id": "a", "trust_domain": "b"}
    given |= {"api_url": "https://a", "enrol_url": "https://a"}

    keys = parse_config(json.dumps(given).encode())
    assert [key for key in keys if f"`{key}`" not in REFERENCE] == []
