"""A board's life at a gateway, on whichever board the run was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handfast.boards.device_error import DeviceError
from handfast.boards.serial_port import NoAnswer

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.board import Board
    from handfast.lab.pytest_plugin.boards import Boards
    from handfast.lab.pytest_plugin.clock import BoardClock
    from handfast.lab.pytest_plugin.gateway import Gateway
    from handfast.lab.pytest_plugin.lab import Pki
    from handfast.lab.pytest_plugin.network import Network

REPORTED_S = 60


def test_it_enrols_and_reports(board: Board, gateway: Gateway) -> None:
    device = board.provision(gateway)
    first = gateway.wait_for_telemetry(device, REPORTED_S)
    assert first is not None
    assert first.seq == 1
    second = gateway.wait_for_telemetry(device, REPORTED_S)
    assert second is not None
    assert second.seq == 2
    assert board.expect(r"mtls: enrolled .* by=(\w+)", REPORTED_S)[1] == "token"


def test_code_on_the_board_gives_values_of_python(board: Board) -> None:
    assert board.exec("print('hello')").strip() == "hello"
    board.exec("import sys\nclass m:\n f = staticmethod(lambda *a: a)\nsys.modules['m'] = m")
    values = (None, True, 21.5, -3, "two\nlines", b"\x00\xff", (1, [2, {"a": 3}]))
    assert board.call("m.f", *values) == values
    with pytest.raises(DeviceError, match="KeyError") as raised:
        board.exec("{}['no']")
    assert raised.value.kind == "KeyError"


def test_each_line_is_expected_once(board: Board) -> None:
    board.exec("print('first 1')\nprint('second')\nprint('first 2')")
    assert board.expect(r"first (\d)")[1] == "1"
    assert board.expect(r"first (\d)")[1] == "2"
    with pytest.raises(NoAnswer, match="did not print"):
        board.expect("second", 0.1)


def test_a_code_that_hangs_is_stopped_and_the_board_goes_on(board: Board) -> None:
    with pytest.raises(NoAnswer):
        board.exec("while True:\n pass", timeout_s=1)
    assert board.exec("print(1)").strip() == "1"


@pytest.mark.board(capabilities=["reset"])
def test_it_reports_after_a_reset(board: Board, gateway: Gateway) -> None:
    device = board.provision(gateway)
    before = gateway.wait_for_telemetry(device, REPORTED_S)
    assert before is not None
    board.reset()
    board.expect("mtls: boot ", REPORTED_S)
    board.expect("mtls: boot ", REPORTED_S)  # the first was that of its first start
    board.expect("mtls: telemetry ", REPORTED_S)
    assert gateway.telemetry(device)[-1].boot_id != before.boot_id


@pytest.mark.board(capabilities=["power_cut"])
@pytest.mark.parametrize("at", [0, 3, 400, "any"])
def test_it_reports_after_a_power_loss(board: Board, gateway: Gateway, at: int | str) -> None:
    device = board.provision(gateway)
    with board.power_cut(at=at):  # type: ignore[arg-type]
        board.exec(
            "for n in range(40):\n with open('/kept', 'w') as f:\n  f.write('x' * n * 50)",
            timeout_s=60,
        )
    assert gateway.wait_for_telemetry(device, REPORTED_S)
    if at in (0, 3):
        assert board.notes == [f"the power failed in flash operation {at} (at={at})"]


@pytest.mark.parametrize("fault", ["cut", "reset", "lose", "blackhole", "truncate_record"])
def test_it_goes_on_after_a_fault_of_the_network(
    board: Board, gateway: Gateway, network: Network, fault: str
) -> None:
    device = board.provision(network.route(gateway))
    assert gateway.wait_for_telemetry(device, REPORTED_S)
    getattr(network, fault)()
    if fault in ("cut", "blackhole"):  # the others are over at once, and one call is tried again
        board.expect("mtls: error", REPORTED_S)
    network.mend()
    gateway.forget_telemetry(device)
    assert gateway.wait_for_telemetry(device, REPORTED_S)


@pytest.mark.parametrize(
    ("shape", "handshake_ms"),
    [
        ({"latency_s": 0.05}, 100),  # two flights each way at least
        ({"bytes_per_s": 4000.0}, 250),  # a leaf of RSA-2048 alone is longer than 1,000 octets
    ],
    ids=["latency", "bandwidth"],
)
def test_a_slow_network_is_slow_and_works(
    board: Board, gateway: Gateway, network: Network, shape: dict[str, float], handshake_ms: int
) -> None:
    through = network.route(gateway)
    network.shape(**shape)
    device = board.provision(through)
    slow = gateway.wait_for_telemetry(device, REPORTED_S)
    assert slow is not None
    assert slow.values["handshake_ms"] >= handshake_ms


def test_a_revoked_board_reports_no_more(board: Board, gateway: Gateway) -> None:
    device = board.provision(gateway)
    assert gateway.wait_for_telemetry(device, REPORTED_S)
    gateway.revoke(device)
    board.expect("mtls: refused", REPORTED_S)
    gateway.forget_telemetry(device)
    assert gateway.wait_for_telemetry(device, 2) is None


@pytest.mark.boards(2)
def test_two_boards_are_two_devices(boards: Boards, gateway: Gateway) -> None:
    devices = boards.provision(gateway)
    assert all(gateway.wait_for_telemetry(device, REPORTED_S) for device in devices)
    serials = {board.exec("import machine\nprint(machine.unique_id())") for board in boards}
    assert len(serials) == len({device.device_id for device in devices}) == 2


@pytest.mark.board(capabilities=["clock"])
def test_a_wrong_clock_is_set_right_by_the_gateway(
    board: Board, gateway: Gateway, clock: BoardClock
) -> None:
    device = board.provision(gateway)
    clock.wake_at(1_000_000_000)
    board.expect("mtls: clock source=tsa", REPORTED_S)
    gateway.forget_telemetry(device)
    assert gateway.wait_for_telemetry(device, REPORTED_S)
    assert clock.read() > 1_700_000_000


@pytest.mark.gateway(device_lifetime_s=30, overlap_s=5)
def test_it_rotates_at_a_gateway_of_its_own(board: Board, gateway: Gateway, pki: Pki) -> None:
    device = board.provision(gateway)
    board.expect("mtls: renewed ", REPORTED_S)
    leaves = [
        row
        for row in gateway.admin.device(device.device_id)["certificates"]
        if row["kind"] == "ldevid"
    ]
    assert len(leaves) >= 2
    assert {"root", "server", "device", "factory"} <= set(pki.certificates())
