"""The device's own copies of the wire's constants agree with the vectors that the host uses too."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from handfast.resources import firmware_dir

VECTORS = Path(__file__).parent.parent / "vectors"
WIRE = json.loads((VECTORS / "wire.json").read_text())
SLUGS = json.loads((VECTORS / "errors.json").read_text())


def constants(module: str) -> dict[str, object]:
    """Top-level constants of a device module that only a board can import."""
    found = {}
    for node in ast.parse((firmware_dir() / f"mtls/{module}.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            if isinstance(value, ast.Call) and ast.unparse(value.func) == "const":
                value = value.args[0]
            try:
                found[node.targets[0].id] = ast.literal_eval(value)
            except ValueError:
                continue  # made by an expression: not a constant of the wire
    return found


def test_time_stamp_content_types_agree() -> None:
    timesync = constants("timesync")
    assert timesync["_QUERY"] == WIRE["tsa_content_type"]
    assert timesync["_REPLY"] == WIRE["tsa_reply_content_type"]


def test_the_agent_knows_only_slugs_that_exist() -> None:
    agent = constants("agent")
    assert agent["_PREFIX"] == WIRE["problem_type_prefix"]
    assert set(agent["_ABOUT_THE_LEAF"]) <= set(SLUGS)


def test_the_store_knows_a_key_in_a_chip_by_what_the_driver_writes() -> None:
    assert constants("identity")["_IN_CHIP"] == constants("keys")["IN_CHIP"]


def test_device_ids_are_the_same_everywhere() -> None:
    import re

    from mtls.config import parse_config

    base = {
        "schema": WIRE["config_schema"],
        "api_url": "https://h",
        "enrol_url": "https://h",
        "trust_domain": "t",
    }
    for candidate in ("a", "0", "a.b_c-d", "a" * 63, "a" * 64, "", "-a", ".a", "A", "a b", "ä"):
        try:
            parse_config(json.dumps({**base, "device_id": candidate}).encode())
            accepted = True
        except Exception:
            accepted = False
        assert accepted == bool(re.fullmatch(WIRE["device_id_pattern"], candidate)), candidate
