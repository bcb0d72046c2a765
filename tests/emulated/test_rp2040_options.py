"""The life of an emulated RP2040 whose firmware has all options: TLS 1.3, and sessions resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from provision_support import running_gateway
from rp2040_support import PATIENCE_S, flash, gateway_options, run

from handfast.boards.firmware_options import ALL
from handfast.boards.provision import provision
from handfast.boards.rp2040 import EmulatedRp2040
from handfast.boards.rp2040_build import build_firmware
from handfast.boards.serial_link import SerialLink
from handfast.lab.gateway_process import GatewayProcess, as_boards_reach
from handfast.resources import firmware_dir

# A fresh heap, the network, and the gateway's time: what a connection of the library's needs.
BEGIN = """
import sys
sys.path.append('/examples')
import resumption
import mtls, uplink
from mtls.clock import Clock
from mtls.timesync import sync
uplink.up(60000)
store = mtls.Store()
sync(store, Clock(store))
def call(session):
    answer = session.get('/v1/ping')
    cipher = session._connection._stream.cipher()
    print(answer.status_code, cipher[1], resumption.resumed)
    session.close()
"""

pytestmark = pytest.mark.timeout(540)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    options = gateway_options(resume_port=0)
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


@pytest.fixture(scope="module")
def firmware() -> Path:
    return build_firmware(options=ALL)  # before the clock of a test runs


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedRp2040]:
    with EmulatedRp2040(directory=tmp_path_factory.mktemp("boards") / "pico-all") as board:
        yield board


def test_it_is_flashed_and_boots_with_all_that_it_is_to_have(
    board: EmulatedRp2040, firmware: Path
) -> None:
    board.power_on()
    flash(board, firmware, running=False)
    said = run(
        board,
        "import mtls, tls\ncontext = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)\n"
        "print(mtls.__file__.startswith('mtls/'), hasattr(context, 'ecdsa_sign_callback'),"
        " hasattr(tls, 'SSLSession'), 'TLS1-3-AES-128-GCM-SHA256' in context.get_ciphers())",
    )
    assert said == "True True True True"


def test_it_enrols_and_reports_with_the_library_that_is_frozen_in(
    board: EmulatedRp2040, gateway: GatewayProcess
) -> None:
    provision(board.serial_url, gateway=gateway.admin, device_id=board.name, telemetry_interval_s=1)
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("enrolled", PATIENCE_S)
        console.wait_for_event("telemetry", PATIENCE_S)
    assert run(board, "import mtls\nprint(mtls.__file__)").startswith("mtls/")


def test_it_calls_the_gateway_by_tls_1_3_and_resumes_where_that_is_offered(
    board: EmulatedRp2040, gateway: GatewayProcess
) -> None:
    api, resuming = (board_url(gateway, name) for name in ("api", "api-resume"))
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset(timeout_s=PATIENCE_S)
        example = firmware_dir() / "examples" / "resumption.py"
        link.push({"/examples/resumption.py": example.read_bytes()})
        link.exec(BEGIN, PATIENCE_S)

        def calls(url: str) -> list[str]:
            code = f"session = mtls.Session({url!r}, store)\ncall(session)\ncall(session)"
            return link.exec(code, PATIENCE_S).splitlines()

        assert calls(api) == ["200 TLSv1.3 False"] * 2
        assert calls(resuming) == ["200 TLSv1.2 False", "200 TLSv1.2 True"]
        gateway.admin.suspend(board.name)
        assert calls(resuming)[0] == "403 TLSv1.2 True"


def board_url(gateway: GatewayProcess, listener: str) -> str:
    return as_boards_reach(gateway.urls[listener], gateway.boards_at)
