"""Provisioning real simulated boards for a real gateway, to the first accepted call."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from provision_support import fit_radio, running_board, running_gateway

from handfast.admin_client import AdminClient
from handfast.boards.device_files import hashes
from handfast.boards.identify import BoardFacts, identify
from handfast.boards.provision import Provisioned, provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import Refused
from handfast.lab.gateway_process import GatewayProcess
from handfast.pki.authorities import load_certificates
from handfast.state import StateDir

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


@pytest.fixture
def provisioned(board: SimulatedBoard, gateway: AdminClient) -> Callable[..., Provisioned]:
    def run(**options: object) -> Provisioned:
        return provision(board.serial_url, gateway=gateway, **options)  # type: ignore[arg-type]

    return run


def run_until_first_telemetry(board: SimulatedBoard) -> str:
    """Run the application and return what it printed up to its first accepted report."""
    with SerialLink.open(board.serial_url) as link, link.start_application() as console:
        console.wait_for_event("telemetry", APPLICATION_S)
        return console.text


@pytest.mark.parametrize(
    ("profile", "micropython"),
    [
        ("sim-pico-w", None),
        ("sim-esp32", None),
        ("sim-pico-w", "1.25.0"),
        ("sim-esp32", "1.25.0"),
    ],
)
def test_blank_board_enrols_and_calls_the_api(
    tmp_path: Path, gateway: AdminClient, profile: str, micropython: str | None
) -> None:
    folder = tmp_path / f"first-{profile}-{micropython}"
    with running_board(folder, profile, micropython=micropython) as board:
        done = provision(board.serial_url, gateway=gateway, start=False)
        assert done.token_given
        assert done.idevid_issued
        assert not done.enrolled
        run_until_first_telemetry(board)
    assert gateway.telemetry(done.device_id)
    assert done.device_id == f"{profile}-{board.unique_id.hex()[-8:]}"
    assert done.hardware_id == board.unique_id.hex()


def test_started_application_needs_nothing_more(
    board: SimulatedBoard, gateway: AdminClient
) -> None:
    done = provision(board.serial_url, gateway=gateway)
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("telemetry", APPLICATION_S)
    assert gateway.telemetry(done.device_id)


def test_board_without_a_token_enrols_with_its_idevid(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    done = provisioned(start=False, token=False)
    assert not done.token_given
    assert "by=idevid" in run_until_first_telemetry(board)
    assert gateway.device(done.device_id)["tokens"] == []


def test_board_that_cannot_inflate_is_given_each_module_as_a_file(
    board: SimulatedBoard,
    provisioned: Callable[..., Provisioned],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_deflate(link: SerialLink) -> BoardFacts:
        link.exec("import sys\nsys.modules['deflate'] = sys\n")  # has no DeflateIO
        return identify(link)

    with monkeypatch.context() as hidden:
        hidden.setattr("handfast.boards.provision.identify", without_deflate)
        provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        unpacked = hashes(link, "/lib/mtls")
    assert {path.rpartition(".")[2] for path in unpacked} == {"mpy"}
    assert "/lib/mtls/agent.mpy" in unpacked
    run_until_first_telemetry(board)
    again = provisioned(start=False)  # it can, and has had the library as many files
    assert (again.files_copied, again.files_removed) == (2, len(unpacked) - 1)
    with SerialLink.open(board.serial_url) as link:
        assert set(hashes(link, "/lib/mtls")) == {"/lib/mtls/__init__.mpy", "/lib/mtls/library.z"}
    run_until_first_telemetry(board)


def test_second_run_copies_nothing_and_keeps_the_identity(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    first = provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        library = hashes(link, "/lib/mtls")
    assert first.compiled
    assert {path.rpartition("/")[2] for path in library} == {"__init__.mpy", "library.z"}
    again = provisioned(start=False)
    assert (again.files_copied, again.files_removed) == (0, 0)
    assert again.files_unchanged == first.files_copied
    assert (again.device_id, again.idevid_sha256) == (first.device_id, first.idevid_sha256)
    # Neither a new certificate, nor a second token for the one that is still good.
    assert not again.idevid_issued
    assert not again.token_given
    run_until_first_telemetry(board)
    enrolled = provisioned(start=False)
    assert enrolled.enrolled
    assert not enrolled.token_given
    device = gateway.device(first.device_id)
    assert len(device["tokens"]) == 1
    assert [c["kind"] for c in device["certificates"]].count("idevid") == 1
    run_until_first_telemetry(board)


def test_board_holds_what_the_gateway_says(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    fit_radio(board)
    done = provisioned(device_id="named.board", networks={"Café": "p'ss\"wörd"}, start=False)
    trust = gateway.trust()
    with SerialLink.open(board.serial_url) as link:
        config = json.loads(link.read_file("/mtls/config.json") or b"")
        anchors = link.hashes("/mtls/anchor")
        secret = json.loads(link.read_file("/mtls/secret.json") or b"")
        seed = link.read_file("/mtls/seed")
    assert config["device_id"] == done.device_id == "named.board"
    assert [config[key] for key in ("api_url", "enrol_url", "tsa_url", "trust_domain")] == [
        trust[key] for key in ("api_url", "enrol_url", "tsa_url", "trust_domain")
    ]
    assert config["networks"] == ["Café"]
    assert "p'ss" not in json.dumps(config)
    assert secret["wifi"] == {"Café": "p'ss\"wörd"}
    given = {"tls-": trust["tls_anchors"], "root-": trust["roots"]}
    assert {(Path(path).name.split("-")[0] + "-", digest) for path, digest in anchors.items()} == {
        (kind, hashlib.sha256(base64.b64decode(der)).hexdigest())
        for kind, ders in given.items()
        for der in ders
    }
    assert len(seed or b"") == 32


def test_wifi_password_is_kept_when_none_is_given_again(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned]
) -> None:
    fit_radio(board)
    provisioned(networks={"home": "first secret"}, start=False)
    provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        config = json.loads(link.read_file("/mtls/config.json") or b"")
        secret = json.loads(link.read_file("/mtls/secret.json") or b"")
    assert config["networks"] == ["home"]
    assert secret["wifi"] == {"home": "first secret"}
    assert secret["token"]


def test_idevid_is_of_the_factory_ca_and_of_the_key_on_the_board(
    board: SimulatedBoard,
    provisioned: Callable[..., Provisioned],
    served: tuple[StateDir, GatewayProcess],
) -> None:
    done = provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset()
        request = base64.b64decode(link.call("mtls.provision.idevid_csr", timeout_s=60))
        der = link.exec(
            "from mtls.store import Store\nfrom binascii import hexlify\n"
            "print(hexlify(Store().identity('idevid').cert_der).decode())"
        )
    certificate = x509.load_der_x509_certificate(bytes.fromhex(der.strip()))
    certificate.verify_directly_issued_by(load_certificates(served[0])["factory"])
    assert certificate.public_key() == x509.load_der_x509_csr(request).public_key()
    assert hashlib.sha256(bytes.fromhex(der.strip())).hexdigest() == done.idevid_sha256


def test_radio_is_on_before_the_first_key_is_made(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned]
) -> None:
    fit_radio(board)
    provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        held = (link.read_file("/radio") or b"").decode().split()
    assert "config.json" in held
    assert "idevid" not in held


@pytest.mark.parametrize(
    ("profile", "held"), [("sim-esp32", {"config.json", "idevid"}), ("sim-pico-w", set())]
)
def test_an_esp32_without_wifi_has_its_radio_on_before_it_makes_a_leafs_key(
    profile: str, held: set[str], gateway: AdminClient, tmp_path: Path
) -> None:
    with running_board(tmp_path / f"radio-{profile}", profile) as board:
        provision(board.serial_url, gateway=gateway, start=False)
        fit_radio(board)
        run_until_first_telemetry(board)
        with SerialLink.open(board.serial_url) as link:
            seen = set((link.read_file("/radio") or b"").decode().split())
    assert seen >= held
    assert not seen & {"a", "b", "current"}
    assert bool(seen) == bool(held)


def test_board_that_is_refused_goes_on_calling(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    name = provisioned(start=False).device_id
    run_until_first_telemetry(board)
    gateway.suspend(name)
    with pytest.raises(Refused, match="device resume"):
        provisioned()
    gateway.resume(name)
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("telemetry", APPLICATION_S)


def test_device_that_was_added_by_name_alone_becomes_this_boards(
    provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    gateway.add_device("added-by-name")
    done = provisioned(device_id="added-by-name", start=False)
    assert gateway.device("added-by-name")["hardware_id"] == done.hardware_id


def test_token_of_another_time_is_replaced(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    name = provisioned(start=False).device_id
    gateway.create_token(name, lifetime_s=3600)  # unused, but not the one that the board holds
    with SerialLink.open(board.serial_url) as link:
        link.push({"/mtls/secret.json": b'{"token": "of another time"}'})
    assert provisioned(start=False).token_given
    assert "by=token" in run_until_first_telemetry(board)


def test_new_name_gives_a_new_identity(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned]
) -> None:
    first = provisioned(device_id="renamed-1", start=False)
    run_until_first_telemetry(board)
    second = provisioned(device_id="renamed-2", start=False)
    with SerialLink.open(board.serial_url) as link:
        left = {Path(path).name for path in link.hashes("/mtls")}
    assert left.isdisjoint({"current", "slot-a", "slot-b"})
    assert second.idevid_issued
    assert second.token_given
    assert second.idevid_sha256 != first.idevid_sha256
    assert "enrolled" in run_until_first_telemetry(board)
    # Without a name it keeps the one that it has.
    assert provisioned(start=False).device_id == "renamed-2"


def test_board_whose_identity_was_erased_gets_a_new_one(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned]
) -> None:
    first = provisioned(start=False)
    run_until_first_telemetry(board)
    with SerialLink.open(board.serial_url) as link:
        link.exec(
            "import os\nfor n in os.listdir('/mtls'):\n if n != 'anchor': os.remove('/mtls/'+n)"
        )
    second = provisioned(start=False)
    assert second.device_id == first.device_id
    assert second.idevid_sha256 != first.idevid_sha256
    assert second.token_given
    run_until_first_telemetry(board)


def test_key_that_was_superseded_is_not_certified_again(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned], gateway: AdminClient
) -> None:
    first = provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        superseded = link.read_file("/mtls/idevid") or b""
        link.exec("import os\nos.remove('/mtls/idevid')")
    second = provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:  # an old copy of the flash, say
        link.push({"/mtls/idevid": superseded})
    third = provisioned(start=False)
    assert third.idevid_issued
    certificates = gateway.device(first.device_id)["certificates"]
    states = {c["sha256"]: c["state"] for c in certificates if c["kind"] == "idevid"}
    assert states == {
        first.idevid_sha256: "revoked",
        second.idevid_sha256: "revoked",
        third.idevid_sha256: "current",
    }
    assert "enrolled" in run_until_first_telemetry(board)


def test_board_moves_to_another_gateway(
    tmp_path: Path, board: SimulatedBoard, provisioned: Callable[..., Provisioned]
) -> None:
    provisioned(start=False)
    run_until_first_telemetry(board)
    with running_gateway(tmp_path / "other") as (_, other):
        done = provision(board.serial_url, gateway=other.admin, start=False)
        assert done.idevid_issued
        assert done.token_given
        assert done.files_removed == 2  # the anchors of the first
        run_until_first_telemetry(board)
        assert other.admin.telemetry(done.device_id)


def test_board_is_not_told_the_time(
    board: SimulatedBoard, provisioned: Callable[..., Provisioned]
) -> None:
    provisioned(start=False)
    with SerialLink.open(board.serial_url) as link:
        assert int(link.exec("import time\nprint(time.time())")) < 600


def test_command_line_provisions_and_prints_no_secret(
    board: SimulatedBoard, served: tuple[StateDir, GatewayProcess]
) -> None:
    fit_radio(board)
    wifi = "a secret of the air"
    command = [sys.executable, "-m", "handfast", "provision", "--board", board.serial_url]
    command += ["--dir", str(served[0].root), "--wifi", "home", "--no-start"]
    environment = {**os.environ, "HANDFAST_WIFI_PASSWORD": wifi}
    people = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert people.returncode == 0, people.stderr
    with SerialLink.open(board.serial_url) as link:
        token = json.loads(link.read_file("/mtls/secret.json") or b"")["token"]
    program = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert program.returncode == 0, program.stderr
    assert json.loads(program.stdout)["files_copied"] == 0
    said = people.stdout + people.stderr + program.stdout + program.stderr
    log = served[0].gateway_log.read_text()
    for secret in (wifi, token):
        assert secret not in said
        assert secret not in log
    assert program.stderr == ""


def test_command_line_finds_a_running_simulated_board_by_its_name(
    tmp_path: Path, served: tuple[StateDir, GatewayProcess], gateway: AdminClient
) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    def handfast(*arguments: str) -> str:
        command = [sys.executable, "-m", "handfast", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    handfast("sim", "start", "--name", "bench-7")
    try:
        folder = str(served[0].root)
        printed = handfast(
            "provision", "--board", "bench-7", "--dir", folder, "--device-id", "seven"
        )
    finally:
        handfast("sim", "stop", "bench-7")
    assert "seven" in printed
    assert gateway.device("seven")["tokens"]
