"""docs/reference names every public name of the device's library."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mtls.config import parse_config

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "firmware" / "mtls"
PAGES = [page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")]
REFERENCE = "".join(PAGES)
# What stands there as code, between backquotes or in a block of its own.
OF_THE_LIBRARY = "".join(
    (ROOT / "docs" / "reference" / f"{page}.md").read_text("utf-8")
    for page in ("device-library", "heap")
)
CODE = "\n".join(re.findall(r"```.*?```|`[^`]+`", OF_THE_LIBRARY, re.DOTALL))

# Modules that are the library's own business altogether: their names may change.
OWN = {
    *("anchors", "cacerts", "call", "config", "csrattrs", "der", "drbg", "drift", "ds3231"),
    *("enrolment", "entropy", "erase", "est", "ethernet", "failure", "http", "issuance", "ntp"),
    *("outgoing", "p256", "_p256_table", "pkcs7", "problem", "proof", "query", "redirect", "retry"),
    *("rollover", "secrets", "status", "timekeeping", "tls", "tsp", "upload", "url", "window"),
    *("witness", "x509"),
}
# In the others, what is there for other modules of the library.
HIDDEN = {
    "agent": {"about_the_leaf"},
    "atecc": {"crc16"},
    "client": {"SessionBase", "filled", "fill", "pull", "read_all", "blank", "rest"},
    "client.Session": {"read_into", "read_whole"},
    "aio.Session": {"read_into", "read_whole"},
    "client.Response": {"refusal"},
    "clock": {"to_civil"},
    "clock.Clock": {
        *("floor", "note_not_before", "accept_signed", "doubtful", "accept_hint"),
        *("accept_running", "accept_issued", "raise_floor", "require"),
    },
    "custody": {"pack_identity", "recovery_order", "spare_slot", "hardware_id", "forget"},
    "heap": {"fill_holes"},
    "identity": {"unpack_identity"},
    "identity.Identity": {"in_chip", "paired"},
    "keys": {"private_key_der", "public_key_info", "ecdsa_signature"},
    "pin": {"Pins"},
    "plan": {"renewal_time", "renewal_plan", "pause_ms"},
    "provision": {"install"},
    "room": {"needed"},
    "timesync": {"signed_time"},
    "utc": {"to_unix", "from_board"},
    "watchdog": {"may_feed"},
}
Names = dict[str, list[str]]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def defined(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the public functions and classes of a body, and what it has by assignment."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if is_public(node.name):
                yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if is_public(name) and not name.isupper():
                yield name, node


def public_names() -> Names:
    """Return what the modules define, by module and by class: of all but OWN, HIDDEN and all."""
    found: Names = {}
    for path in sorted(LIBRARY.glob("*.py")):
        if path.stem in OWN:
            continue
        names = dict(defined(ast.parse(path.read_text("utf-8")).body))
        found[path.stem] = list(names)
        for name, node in names.items():
            if isinstance(node, ast.ClassDef) and name not in HIDDEN.get(path.stem, ()):
                found[f"{path.stem}.{name}"] = [member for member, _ in defined(node.body)]
    return found


PUBLIC = public_names()


@pytest.mark.parametrize("place", PUBLIC)
def test_every_public_name_is_in_the_reference(place: str) -> None:
    shown = set(PUBLIC[place]) - HIDDEN.get(place, set())
    missing = [name for name in sorted(shown) if not re.search(rf"\b{name}\b", CODE)]
    assert not missing, f"{place}: say what they are for, or name them in HIDDEN"


def test_what_an_agent_has_to_be_read_is_in_the_reference_and_so_is_the_version() -> None:
    names = {
        target.attr
        for node in ast.walk(ast.parse((LIBRARY / "agent.py").read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
        for target in ast.walk(node)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and is_public(target.attr)
    }
    assert names >= {"active", "failures", "last_error", "not_after", "not_before"}
    wanted = [*(f"agent.{name}" for name in sorted(names)), "mtls.__version__"]
    assert [name for name in wanted if not re.search(rf"\b{name}\b", CODE)] == []


def test_what_is_left_out_of_the_reference_is_there() -> None:
    assert {f"{name}.py" for name in OWN} <= {path.name for path in LIBRARY.glob("*.py")}
    assert set(HIDDEN) <= set(PUBLIC)
    gone = {place: names - set(PUBLIC[place]) for place, names in HIDDEN.items()}
    assert not any(gone.values()), gone


def test_what_keeps_its_name_on_a_board_is_in_the_reference() -> None:
    """The compact form shortens the others, so these are what an application can have asked for."""
    layout = tomllib.loads((LIBRARY.parent / "layout.toml").read_text("utf-8"))
    kept = {
        word.rpartition(".")[2] for words in layout["public"].values() for word in words.split()
    }
    assert len(kept) > 100
    assert [name for name in sorted(kept) if not re.search(rf"\b{name}\b", CODE)] == []


def test_every_example_is_in_the_reference() -> None:
    examples = [path.name for path in (LIBRARY.parent / "examples").glob("*.py")]
    assert len(examples) >= 4
    assert [name for name in examples if name not in REFERENCE] == []


def test_every_key_of_the_configuration_is_in_the_reference() -> None:
    given = {"schema": 1, "device_id": "a", "trust_domain": "b"}
    given |= {"api_url": "https://a", "enrol_url": "https://a"}

    keys = parse_config(json.dumps(given).encode())
    assert first_column("key of config.json") == sorted(keys)


def test_every_event_is_in_the_table_and_no_other() -> None:
    assert first_column("name") == sorted(set(events()))


def first_column(title: str) -> list[str]:
    """Return the names in the first column of the reference's table that has that title."""
    page = (ROOT / "docs" / "reference" / "device-library.md").read_text("utf-8")
    (table,) = re.findall(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    return sorted(name for row in table.splitlines() for name in re.findall("`(.*?)`", cell(row)))


def cell(row: str) -> str:
    return row.split("|")[1]


def events() -> Iterator[str]:
    """Yield what an agent's `_tell` is called with, and what console_facts calls an error."""
    for path in LIBRARY.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="_tell"),
                    args=[ast.Constant(value=str(event)), *_],
                ):
                    yield event
                case ast.Call(
                    func=ast.Name(id="_finish"), args=[_, _, ast.Constant(value=str(event)), *_]
                ):
                    yield event
                case ast.FunctionDef(name="console_facts"):
                    for end in ast.walk(node):
                        match end:
                            case ast.Return(
                                value=ast.Tuple(elts=[ast.Constant(value=str(event)), *_])
                            ):
                                yield event
