"""There is never more than one TLS session: counted over a board's whole cycle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firmware_rig import SIMULATED
from provision_support import running_gateway
from script_rig import run_script, write_store

from handfast.admin_client import AdminClient


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as (_, gateway):
        yield gateway.admin


def cycle(folder: Path, admin: AdminClient, profile: str, kind: str) -> dict[str, Any]:
    store = folder / "store"
    write_store(admin, store, f"one-{profile}-{kind}".replace("+", "-"), anchors=False)
    script = Path(__file__).parents[1] / "firmware/device/one_tls_session.py"
    printed = run_script(
        folder, script, str(store), kind, profile=profile, heap="1m", timeout_s=120
    )
    found: dict[str, Any] = json.loads(printed[-1])
    return found


@pytest.mark.parametrize("profile", SIMULATED)
@pytest.mark.parametrize(("kind", "sessions"), [("blocking", 14), ("aio", 10)])
def test_one_tls_session_at_a_time_from_the_first_anchors_to_the_last_renewal(
    tmp_path: Path, gateway: AdminClient, profile: str, kind: str, sessions: int
) -> None:
    found = cycle(tmp_path, gateway, profile, kind)
    assert found["most"] == 1, found
    assert found["left"] == 0, found
    assert found["opened"] >= sessions
    told = {event for event in found["told"] if isinstance(event, str)}
    assert {"clock", "enrolled", "renewed"} <= told
