"""A board that has served is decommissioned: it says so, its flash is clean, it may serve again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, make_rig
from provision_support import running_gateway

from handfast.lab.demo.keysearch import keys_in_flash
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess

_DECOMMISSION = "from mtls.store import Store\nStore().decommission()"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=6)
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


@pytest.fixture(params=SIMULATED)
def rig(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    name = f"leaver-{request.param}".replace("+", "-")
    with make_rig(tmp_path / "board", name, gateway.admin, request.param) as rig:
        yield rig


def test_a_board_in_service_is_decommissioned_and_provisioned_again(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry", after=rig.event("renewed").number)
    rig.stop()
    assert len(keys_in_flash(rig.board.flash_image.read_bytes())) >= 3
    rig.repl(_DECOMMISSION)
    assert keys_in_flash(rig.board.flash_image.read_bytes()) == []
    rig.start()
    error = rig.event("error")
    assert error.fields == {
        "kind": "ConfigError",
        "detail": "no /mtls/config.json: provision this board",
    }
    rig.stop()
    rig.provision()
    rig.start()
    rig.event("telemetry")


def test_provisioning_ends_a_decommissioning_that_was_cut_short(rig: Rig) -> None:
    rig.provision()
    old = keys_in_flash(rig.board.flash_image.read_bytes())
    rig.repl("open('/mtls.erase', 'w').close()")
    rig.provision()
    kept = keys_in_flash(rig.board.flash_image.read_bytes())
    assert old
    assert kept
    assert not {key.scalar for key in old} & {key.scalar for key in kept}
    rig.start()
    rig.event("telemetry")
