"""A report whose answer is lost goes out once more, by its number, and is stored once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, make_rig
from provision_support import running_gateway

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.relay import Relay

WITHIN_S = 90.0
API_URL = """
import json
with open('/mtls/config.json') as f: c = json.load(f)
c['api_url'] = {url!r}
with open('/mtls/config.json', 'w') as f: json.dump(c, f)
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), GatewayOptions()) as (_, gateway):
        yield gateway


@pytest.fixture(params=SIMULATED)
def rig(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    name = f"reporting-{request.param}".replace("+", "-")
    with make_rig(tmp_path / "board", name, gateway.admin, request.param) as rig:
        yield rig


def test_a_report_whose_answer_is_lost_is_sent_again_at_once_and_stored_once(
    rig: Rig, gateway: GatewayProcess
) -> None:
    with Relay(gateway.admin.trust()["api_url"]) as relay:
        rig.provision(code=API_URL.format(url=relay.url))
        console = rig.start()
        seen = rig.event("telemetry", timeout_s=WITHIN_S)
        for _ in range(3):
            opened = relay.connections
            relay.truncate_record()  # of the gateway's: the report has arrived, its answer does not
            seen = rig.event("telemetry", after=seen.number, timeout_s=WITHIN_S)
            seen = rig.event("telemetry", after=seen.number, timeout_s=WITHIN_S)
            assert relay.connections == opened + 1, "once more, and no oftener"
        rig.gateway.suspend(rig.device_id)  # the last that it says is that it was refused
        rig.event("refused", after=seen.number, timeout_s=WITHIN_S)
        assert not console.events("error"), "it was no failure of the application's"
    acknowledged = rig.acknowledged()
    assert [number for _, number in acknowledged] == list(range(1, len(acknowledged) + 1))
    assert rig.stored() == acknowledged
