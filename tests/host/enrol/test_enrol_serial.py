"""``handfast enrol --serial``: a modelled MKR and a gateway that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from ecc_chip_model import EccChipModel
from enrol_kit import Handfast, csr, known, new_key, ping
from mkr_cable import MkrCable
from mkr_model import MkrModel

from handfast.boards import mkr
from handfast.boards.mkr import Mkr
from handfast.lab.gateway_process import GatewayProcess
from handfast.state import StateDir

_chips = iter(range(1, 1000))


def new_chip() -> EccChipModel:
    """Return a chip with a serial number of its own: the gateway knows one device by it."""
    return EccChipModel(f"0123{next(_chips):012X}EE")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkr, "_QUICK_S", 0.3)
    monkeypatch.setattr(mkr, "_CHIP_S", 1.0)


@pytest.fixture
def board() -> Iterator[MkrModel]:
    with MkrModel(new_chip()) as running:
        yield running


def enrol(handfast: Handfast, url: str, *options: str) -> dict[str, Any]:
    done = handfast("enrol", "--serial", url, "--json", *options)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    told["leaf"] = x509.load_pem_x509_certificate(told.pop("certificate").encode())
    return told


def states(gateway: GatewayProcess, device_id: str) -> list[str]:
    return sorted(row["state"] for row in gateway.admin.device(device_id)["certificates"])


def use(
    state: StateDir, gateway: GatewayProcess, board: MkrModel, leaf: x509.Certificate, folder: Path
) -> None:
    """Call the API as the board would: with the chip's key."""
    (key,) = (key for key in board.chip.keys.values() if key.public_key() == leaf.public_key())
    ping(state, gateway, key, leaf, folder)


def test_a_board_gets_a_certificate_for_the_key_in_its_chip(
    handfast: Handfast, state: StateDir, gateway: GatewayProcess, board: MkrModel, tmp_path: Path
) -> None:
    told = enrol(handfast, board.url)
    tail = board.chip.serial[-8:].lower()
    assert told["device_id"] == f"mkrwifi1010-{tail}"
    assert (told["hardware_id"], told["issued"], told["tls"]) == (board.chip.serial, True, True)
    with Mkr.open(board.url) as client:
        held = client.certificate()
    assert held is not None
    leaf = x509.load_der_x509_certificate(held)
    assert leaf == told["leaf"]
    assert board.chip.serial in leaf.subject.rfc4514_string()
    use(state, gateway, board, leaf, tmp_path)


def test_a_second_run_changes_nothing(
    handfast: Handfast, gateway: GatewayProcess, board: MkrModel
) -> None:
    first = enrol(handfast, board.url, "--device-id", "mkr-twice")
    again = enrol(handfast, board.url)  # the name is on the board
    assert again == first | {"issued": False}
    assert (board.chip.keys_made, states(gateway, "mkr-twice")) == (1, ["pending"])


def test_renewal_through_the_host_has_a_new_key_and_supersedes_at_first_use(
    handfast: Handfast, state: StateDir, gateway: GatewayProcess, board: MkrModel, tmp_path: Path
) -> None:
    first = enrol(handfast, board.url, "--device-id", "mkr-renewed")
    use(state, gateway, board, first["leaf"], tmp_path)
    second = enrol(handfast, board.url, "--renew")
    assert second["device_id"] == "mkr-renewed"
    assert second["leaf"].public_key() != first["leaf"].public_key()
    assert states(gateway, "mkr-renewed") == ["current", "pending"]
    use(state, gateway, board, second["leaf"], tmp_path)
    assert states(gateway, "mkr-renewed") == ["current", "superseded"]


def test_a_board_without_tls_is_enrolled_and_not_renewed(
    handfast: Handfast, gateway: GatewayProcess
) -> None:
    with MkrModel(new_chip(), "mkrwan1310") as board:
        done = handfast("enrol", "--serial", board.url, "--device-id", "mkr-lora")
        assert done.returncode == 0
        assert "no TLS path" in done.stderr
        assert enrol(handfast, board.url)["tls"] is False
        refused = handfast("enrol", "--serial", board.url, "--renew")
    assert (refused.returncode, "enrolled only" in refused.stderr) == (5, True)
    assert states(gateway, "mkr-lora") == ["pending"]


@pytest.mark.parametrize("number", [0, 3, 17, 25, 40, 46, 47, 60])
def test_a_run_that_is_cut_short_goes_on_with_the_same_key_and_certificate(
    handfast: Handfast, gateway: GatewayProcess, board: MkrModel, number: int
) -> None:
    device_id = f"mkr-cut-{number}"
    asked = ("--device-id", device_id)
    with MkrCable(board.url, lambda at, line: None if at == number else line) as cable:
        done = handfast("enrol", "--serial", cable.url, *asked)
    assert (done.returncode, "plug it in" in done.stderr) == (6, True), done.stderr
    board.power_cycle()
    enrol(handfast, board.url, *asked)
    assert (board.chip.keys_made, states(gateway, device_id)) == (1, ["pending"])


def test_a_certificate_that_was_revoked_is_not_good_enough(
    handfast: Handfast, gateway: GatewayProcess, board: MkrModel
) -> None:
    enrol(handfast, board.url, "--device-id", "mkr-revoked")
    gateway.admin.revoke("mkr-revoked")
    refused = handfast("enrol", "--serial", board.url)
    assert (refused.returncode, "is revoked" in refused.stderr) == (5, True)
    # Another name is another device: the key that was certified before is not used again.
    other = enrol(handfast, board.url, "--device-id", "mkr-second-life")
    assert (other["issued"], states(gateway, "mkr-second-life")) == (True, ["pending"])


def test_the_name_of_another_board_is_refused_before_a_certificate_is_asked_for(
    handfast: Handfast, gateway: GatewayProcess, board: MkrModel
) -> None:
    gateway.admin.add_device("mkr-taken", hardware_id="0123FFFFFFFFFFFFEE")
    refused = handfast("enrol", "--serial", board.url, "--device-id", "mkr-taken")
    assert (refused.returncode, "another board" in refused.stderr) == (5, True)
    assert states(gateway, "mkr-taken") == []


def test_an_unlocked_chip_leaves_no_device_behind(
    handfast: Handfast, gateway: GatewayProcess, board: MkrModel
) -> None:
    board.chip.locked = False
    before = known(gateway)
    refused = handfast("enrol", "--serial", board.url)
    assert (refused.returncode, "not locked" in refused.stderr) == (6, True)
    assert known(gateway) == before


def test_a_port_without_a_board_or_without_the_sketch_is_said(handfast: Handfast) -> None:
    absent = handfast("enrol", "--serial", "/dev/no-such-port")
    assert (absent.returncode, "/dev/no-such-port" in absent.stderr) == (6, True)
    with MkrModel() as board, MkrCable(board.url, lambda _at, line: line[:0]) as cable:
        silent = handfast("enrol", "--serial", cable.url)
    assert (silent.returncode, "handfast_enrol" in silent.stderr) == (6, True)


def test_without_a_gateway_the_board_is_not_touched(
    handfast: Handfast, board: MkrModel, tmp_path: Path
) -> None:
    with MkrCable(board.url) as cable:
        done = handfast("enrol", "--serial", cable.url, folder=tmp_path)
        assert (done.returncode, cable.lines) == (4, [])


def test_the_certificate_is_written_to_a_file_as_well(
    handfast: Handfast, board: MkrModel, tmp_path: Path
) -> None:
    out = tmp_path / "leaf.der"
    told = enrol(handfast, board.url, "--out", str(out))
    assert x509.load_der_x509_certificate(out.read_bytes()) == told["leaf"]
    assert told["out"] == str(out)


@pytest.mark.parametrize(
    "options",
    [("--csr", "-"), ("--hardware-id", "AB"), ("--device-id", "Not A Name")],
)
def test_options_that_make_no_sense_with_a_board_are_refused(
    handfast: Handfast, board: MkrModel, options: tuple[str, ...]
) -> None:
    done = handfast("enrol", "--serial", board.url, *options, stdin=csr(new_key()))
    assert done.returncode == 2
    assert board.chip.keys_made == 0


def test_either_a_request_or_a_board_is_needed(handfast: Handfast) -> None:
    assert handfast("enrol").returncode == 2
    assert handfast("enrol", "--csr", "-", stdin=csr(new_key())).returncode == 2
