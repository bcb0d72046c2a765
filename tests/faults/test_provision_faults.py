"""Provisioning with everything that goes wrong: one clear message, its exit code, and a way on."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from handfast.admin_client import AdminClient
from handfast.boards.device_error import DeviceError, DeviceFull
from handfast.boards.device_library import DeviceLibrary
from handfast.boards.provision import provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import Unplugged
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem, Refused, Unreachable, UsageError
from handfast.lab.gateway_process import GatewayProcess
from handfast.resources import firmware_dir
from handfast.state import StateDir

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / "host" / "serial"), str(_TESTS / "end_to_end")]
from cable import CutCable  # noqa: E402
from provision_support import fit_radio, running_board, running_gateway  # noqa: E402

APPLICATION_S = 60.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StateDir, GatewayProcess]]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "state") as served:
        yield served


@pytest.fixture
def gateway(served: tuple[StateDir, GatewayProcess]) -> AdminClient:
    return served[1].admin


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    # The folder's name is the board's, and its hardware id comes from it.
    with running_board(tmp_path / f"board-{tmp_path.parent.name}-{tmp_path.name}") as board:
        yield board


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handfast", "provision", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )


# The gateway


def test_unreachable_gateway_is_noticed_before_the_board_is_touched(
    board: SimulatedBoard, tmp_path: Path
) -> None:
    with pytest.raises(Unreachable, match="handfast gateway serve"):
        provision(board.serial_url, gateway=AdminClient(StateDir(tmp_path / "none")))
    with SerialLink.open(board.serial_url) as link:
        assert link.hashes("/") == {}
    done = run_command("--board", board.serial_url, "--dir", str(tmp_path / "none"))
    assert done.returncode == 4
    assert done.stderr.count("no gateway answers") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("change", "remedy"), [("suspend", "resume"), ("revoke", "--device-id")])
def test_device_that_is_out_of_service_is_refused(
    board: SimulatedBoard,
    served: tuple[StateDir, GatewayProcess],
    gateway: AdminClient,
    change: str,
    remedy: str,
) -> None:
    device_id = f"out-of-service-{change}"
    provision(board.serial_url, gateway=gateway, device_id=device_id, start=False)
    getattr(gateway, change)(device_id)
    with pytest.raises(Refused, match=remedy):
        provision(board.serial_url, gateway=gateway, start=False)
    assert len(gateway.device(device_id)["tokens"]) == 1
    done = run_command("--board", board.serial_url, "--dir", str(served[0].root))
    assert done.returncode == 5
    assert device_id in done.stderr


def test_name_of_another_board_is_refused(
    board: SimulatedBoard, gateway: AdminClient, tmp_path: Path
) -> None:
    provision(board.serial_url, gateway=gateway, device_id="taken", start=False)
    with running_board(tmp_path / "impostor") as impostor:
        with pytest.raises(Refused, match="taken is another board"):
            provision(impostor.serial_url, gateway=gateway, device_id="taken", start=False)
        with SerialLink.open(impostor.serial_url) as link:
            assert link.hashes("/") == {}


class LyingGatewayModel(AdminClient):
    """Certifies a key of its own in place of the board's: no real gateway does."""

    def issue_idevid(self, device_id: str, csr_der: bytes) -> bytes:
        assert csr_der
        key = ec.generate_private_key(ec.SECP256R1())
        csr = CertificateSigningRequestBuilder().subject_name(Name([])).sign(key, hashes.SHA256())
        return super().issue_idevid(device_id, csr.public_bytes(serialization.Encoding.DER))


def test_certificate_for_another_key_is_not_installed(
    board: SimulatedBoard, served: tuple[StateDir, GatewayProcess]
) -> None:
    with pytest.raises(Refused, match="another key"):
        provision(board.serial_url, gateway=LyingGatewayModel(served[0]), start=False)
    done = provision(board.serial_url, gateway=served[1].admin, start=False)
    assert done.idevid_issued


# The board


def test_missing_board_is_a_board_problem(served: tuple[StateDir, GatewayProcess]) -> None:
    folder = str(served[0].root)
    for name, message in (("/dev/tty-none", "plug it in"), ("no-such-sim", "no simulated board")):
        done = run_command("--board", name, "--dir", folder)
        assert (done.returncode, message in done.stderr) == (6, True), done.stderr


@pytest.mark.parametrize(
    "arguments", [("--device-id", "No Such Name"), ("--wifi", "home"), ("--no-such-option",)]
)
def test_bad_arguments_are_usage_errors(
    board: SimulatedBoard, served: tuple[StateDir, GatewayProcess], arguments: tuple[str, ...]
) -> None:
    done = run_command("--board", board.serial_url, "--dir", str(served[0].root), *arguments)
    assert done.returncode == 2, done.stderr
    with SerialLink.open(board.serial_url) as link:
        assert link.hashes("/") == {}


def test_wifi_for_a_board_without_a_radio_is_refused_before_anything_is_written(
    board: SimulatedBoard, served: tuple[StateDir, GatewayProcess]
) -> None:
    arguments = ("--board", board.serial_url, "--dir", str(served[0].root), "--wifi", "home")
    done = run_command(*arguments, HANDFAST_WIFI_PASSWORD="a secret of the air")
    assert done.returncode == 6, done.stderr
    assert "has no Wi-Fi" in done.stderr
    assert "without --wifi" in done.stderr
    with SerialLink.open(board.serial_url) as link:
        assert link.hashes("/") == {}
    assert run_command(*arguments[:-2]).returncode == 0


def test_networks_that_a_board_cannot_join_do_not_keep_its_application_from_running(
    board: SimulatedBoard, gateway: AdminClient
) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.push({"/mtls/config.json": b'{"networks": ["home"]}'})
    provision(board.serial_url, gateway=gateway)
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("telemetry", APPLICATION_S)


def test_bad_device_id_is_a_usage_error(board: SimulatedBoard, gateway: AdminClient) -> None:
    with pytest.raises(UsageError, match="device_id"):
        provision(board.serial_url, gateway=gateway, device_id="../x")


@pytest.fixture(scope="module")
def bytes_of_a_run(
    tmp_path_factory: pytest.TempPathFactory, served: tuple[StateDir, GatewayProcess]
) -> int:
    """How much travels towards a blank board, all in all."""
    folder = tmp_path_factory.mktemp("measured")
    with running_board(folder) as board, CutCable(board.serial_url) as cable:
        provision(cable.url, gateway=served[1].admin, device_id="measured", start=False)
        return cable.carried


@pytest.mark.parametrize("part", [random.Random(5).random() for _ in range(10)])  # noqa: S311
def test_provisioning_over_a_cable_cut_at_any_byte_is_resumed(
    board: SimulatedBoard, gateway: AdminClient, bytes_of_a_run: int, part: float
) -> None:
    # The last bytes, of the token, vary; a run that got through them was not cut.
    cut_after = 1 + int(part * 0.99 * bytes_of_a_run)
    with CutCable(board.serial_url, cut_after=cut_after) as cable:
        with pytest.raises(Unplugged, match="plug it in") as caught:
            provision(cable.url, gateway=gateway, start=False)
        assert caught.value.exit_code == 6
    done = provision(board.serial_url, gateway=gateway, start=False)
    device = gateway.device(done.device_id)
    # However often it was tried: one identity, and no more tokens than tries.
    live = [c for c in device["certificates"] if c["state"] == "current"]
    assert [c["kind"] for c in live] == ["idevid"]
    assert len(device["tokens"]) <= 2
    with SerialLink.open(board.serial_url) as link:
        assert not [path for path in link.hashes("/") if path.endswith((".part", ".new"))]
        with link.start_application() as console:
            console.wait_for_event("telemetry", APPLICATION_S)


@pytest.mark.parametrize("operation", [1, 20, 60, 100, 140, 170])
def test_board_that_loses_power_while_provisioned_is_provisioned_again(
    board: SimulatedBoard,
    gateway: AdminClient,
    monkeypatch: pytest.MonkeyPatch,
    operation: int,
) -> None:
    board.power_off()
    board.power_on(cut_after=operation)
    with monkeypatch.context() as few:
        few.setattr("handfast.boards.device_writer.COMMAND_TIMEOUT_S", 2.0)
        few.setattr("handfast.boards.provision._KEY_TIMEOUT_S", 2.0)
        with pytest.raises(BoardProblem):
            provision(board.serial_url, gateway=gateway)
    board.wait_for_power_cut(5)
    board.power_on()
    provision(board.serial_url, gateway=gateway)
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("telemetry", APPLICATION_S)


def library_as_source(micropython: str, mpy: int) -> DeviceLibrary:
    """Return another library than the board has: every file of it differs, in its name too."""
    assert micropython
    assert mpy
    sources = (firmware_dir() / "mtls").glob("*.py")
    return DeviceLibrary({path.name: path.read_bytes() for path in sources}, None)


def flash_operations(board: SimulatedBoard) -> int:
    with SerialLink.open(board.serial_url) as link:
        return int(link.exec("import _sim\nprint(_sim.flash_ops())"))


def enrolled_board(board: SimulatedBoard, gateway: AdminClient) -> str:
    """Provision the board and have it call, then take its power away; returns its device_id."""
    device_id = provision(board.serial_url, gateway=gateway).device_id
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("telemetry", APPLICATION_S)
    board.power_off()
    return device_id


@pytest.fixture(scope="module")
def operations_of_an_update(
    tmp_path_factory: pytest.TempPathFactory, served: tuple[StateDir, GatewayProcess]
) -> int:
    with running_board(tmp_path_factory.mktemp("updated")) as board:
        enrolled_board(board, served[1].admin)
        board.power_on()
        provision(board.serial_url, gateway=served[1].admin, library=library_as_source, start=False)
        return flash_operations(board)


@pytest.mark.parametrize("part", [random.Random(8).random() for _ in range(4)] + [0.9])  # noqa: S311
def test_board_that_loses_power_in_an_update_calls_with_the_old_library_or_the_new(
    board: SimulatedBoard,
    gateway: AdminClient,
    monkeypatch: pytest.MonkeyPatch,
    operations_of_an_update: int,
    part: float,
) -> None:
    device_id = enrolled_board(board, gateway)
    board.power_on(cut_after=int(part * operations_of_an_update))
    with monkeypatch.context() as few:
        few.setattr("handfast.boards.device_writer.COMMAND_TIMEOUT_S", 10.0)
        with pytest.raises(BoardProblem):
            provision(board.serial_url, gateway=gateway, library=library_as_source, start=False)
    board.wait_for_power_cut(5)
    reports = len(gateway.telemetry(device_id))
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        with link.console() as console:
            console.wait_for_event("telemetry", APPLICATION_S)
        library = {Path(path).suffix for path in link.hashes("/lib/mtls")}
    assert library in ({".py"}, {".mpy", ".z"})
    assert len(gateway.telemetry(device_id)) > reports
    done = provision(board.serial_url, gateway=gateway, library=library_as_source, start=False)
    assert (done.enrolled, done.idevid_issued, done.token_given) == (True, False, False)


def test_full_flash_is_refused_with_what_is_missing(
    board: SimulatedBoard, gateway: AdminClient
) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.push({"/filler": bytes(760_000)})
    with pytest.raises(DeviceFull, match=r"is full: \d+ KB more are needed; nothing was written"):
        provision(board.serial_url, gateway=gateway)
    with SerialLink.open(board.serial_url) as link:
        assert set(link.hashes("/")) == {"/filler"}
        link.exec("import os\nos.remove('/filler')")
    provision(board.serial_url, gateway=gateway, start=False)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\x00", b'["a list"]', b'{"networks": 7}'])
def test_damaged_configuration_on_the_board_is_replaced(
    board: SimulatedBoard, gateway: AdminClient, damage: bytes
) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.push({"/mtls/config.json": damage, "/mtls/secret.json": damage})
    provision(board.serial_url, gateway=gateway, start=False)
    with SerialLink.open(board.serial_url) as link:
        config = json.loads(link.read_file("/mtls/config.json") or b"")
        secret = json.loads(link.read_file("/mtls/secret.json") or b"")
    assert (config["schema"], config["networks"]) == (1, [])
    assert secret["token"]


@pytest.mark.parametrize("name", ["idevid", "seed"])
def test_damaged_identity_on_the_board_is_made_anew(
    board: SimulatedBoard, gateway: AdminClient, name: str
) -> None:
    provision(board.serial_url, gateway=gateway, start=False)
    with SerialLink.open(board.serial_url) as link:
        link.exec(f"with open('/mtls/{name}', 'wb') as f: f.write(b'torn')")
    done = provision(board.serial_url, gateway=gateway, start=False)
    assert done.idevid_issued == (name == "idevid")
    with SerialLink.open(board.serial_url) as link:
        assert len(link.read_file(f"/mtls/{name}") or b"") >= 32


def test_board_with_a_stuck_random_source_gets_no_identity(
    board: SimulatedBoard, gateway: AdminClient
) -> None:
    board.entropy = "stuck"
    board.power_cycle()
    with pytest.raises(DeviceError, match="EntropyError") as raised:
        provision(board.serial_url, gateway=gateway, start=False)
    assert raised.value.exit_code == 6
    with SerialLink.open(board.serial_url) as link:
        assert not link.exec("import os; print('idevid' in os.listdir('/mtls') or '', end='')")


def test_interrupted_command_says_so_and_leaves_the_port_free(
    board: SimulatedBoard, served: tuple[StateDir, GatewayProcess]
) -> None:
    board.power_off()  # the command waits for a prompt
    with CutCable(board.serial_url) as cable:
        command = [sys.executable, "-m", "handfast", "provision", "--board", cable.url]
        process = subprocess.Popen(
            [*command, "--dir", str(served[0].root)], stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while not cable.carried:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "interrupted" in said
        assert "Traceback" not in said
        board.power_on()
        provision(cable.url, gateway=served[1].admin, start=False)


# Secrets


def test_neither_key_nor_token_nor_password_leaves_the_board_over_serial(
    board: SimulatedBoard, served: tuple[StateDir, GatewayProcess], tmp_path: Path
) -> None:
    capture = tmp_path / "capture"
    told: list[str] = []
    fit_radio(board)
    provision(
        board.serial_url,
        gateway=served[1].admin,
        networks={"home": "a secret of the air"},
        capture=capture,
        progress=lambda step, _: told.append(step),
    )
    with SerialLink.open(board.serial_url, capture=capture) as link, link.console() as console:
        console.wait_for_event("telemetry", APPLICATION_S)
    with SerialLink.open(board.serial_url) as link:  # read out past the capture
        record = link.read_file("/mtls/idevid") or b""
        slot = link.read_file("/mtls/slot-a") or b""
        seed = link.read_file("/mtls/seed") or b""
    captured = capture.read_bytes()
    log = served[0].gateway_log.read_bytes()
    assert len(captured) > 500
    for key in (_private_scalar(record), _private_scalar(slot)):
        for form in (key, key.hex().encode(), base64.b64encode(key)[:-2]):
            assert form not in captured
            assert form not in log
    assert base64.b64encode(seed) not in captured
    assert b"a secret of the air" not in captured
    assert not [step for step in told if "secret" in step]


def _private_scalar(record: bytes) -> bytes:
    """The 32 bytes of the private key in a record of the board's store (SEC 1, C.4)."""
    length = int.from_bytes(record[4:6], "big")
    key = serialization.load_der_private_key(record[6 : 6 + length], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_numbers().private_value.to_bytes(32, "big")


def test_secrets_that_cannot_be_written_are_told_with_the_first_reason(
    board: SimulatedBoard, gateway: AdminClient
) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.push({"/mtls/secret.json.new/in-the-way": b"x"})
    with pytest.raises(DeviceError, match="EISDIR") as caught:
        provision(board.serial_url, gateway=gateway, start=False)
    assert "token" not in str(caught.value)
    with SerialLink.open(board.serial_url) as link:
        link.exec("import os\nos.remove('/mtls/secret.json.new/in-the-way')")
        link.exec("import os\nos.rmdir('/mtls/secret.json.new')")
    assert provision(board.serial_url, gateway=gateway, start=False).token_given


def test_token_given_is_not_in_the_capture(
    board: SimulatedBoard, gateway: AdminClient, tmp_path: Path
) -> None:
    capture = tmp_path / "capture"
    provision(board.serial_url, gateway=gateway, capture=capture, start=False)
    with SerialLink.open(board.serial_url) as link:
        token = json.loads(link.read_file("/mtls/secret.json") or b"")["token"]
    assert token.encode() not in capture.read_bytes()
