"""The life of an emulated RP2040, from a blank chip to its revocation, in the order of the tests.

One board and one gateway for all of them: the chip is emulated at a fraction of its speed, and each
boot, each key and each handshake takes seconds.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from firmware_rig import wait_until
from provision_support import running_gateway
from rp2040_support import PATIENCE_S, flash, gateway_options, refusals, run
from tls_support import self_signed

from handfast.boards.console import Console
from handfast.boards.flash.running import ask_running, compare_running
from handfast.boards.provision import provision
from handfast.boards.rp2040 import HOST_FROM_BOARD, EmulatedRp2040
from handfast.boards.rp2040_build import build_firmware
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem
from handfast.lab.gateway_process import GatewayProcess
from handfast.state import StateDir

BRING_UPS = 5
NEW = "new.."

pytestmark = pytest.mark.timeout(900)  # with the build, beside another one


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StateDir, GatewayProcess]]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), gateway_options()) as lab:
        yield lab


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedRp2040]:
    build_firmware()
    with EmulatedRp2040(directory=tmp_path_factory.mktemp("boards") / "pico-1") as board:
        yield board


@dataclass(slots=True)
class App:
    """The application's console, from one test to the next."""

    link: SerialLink
    console: Console


@pytest.fixture(scope="module")
def apps() -> Iterator[list[App]]:
    opened: list[App] = []
    yield opened
    for app in opened:
        app.link.close()


def watch(board: EmulatedRp2040, apps: list[App]) -> Console:
    """Read what the application says from now on."""
    stop_watching(apps)
    link = SerialLink.open(board.serial_url)
    apps.append(App(link, link.console()))
    return apps[-1].console


def stop_watching(apps: list[App]) -> None:
    for app in apps:
        app.link.close()
    apps.clear()


def leaves(board: EmulatedRp2040, gateway: GatewayProcess) -> list[dict[str, Any]]:
    """The operational certificates that the board has been issued."""
    rows = gateway.admin.device(board.name)["certificates"]
    return [row for row in rows if row["kind"] == "ldevid"]


def test_a_blank_board_shows_its_drive_and_runs_what_is_copied_there(board: EmulatedRp2040) -> None:
    board.power_on()
    assert board.in_bootsel
    done = flash(board, build_firmware(), running=False)
    assert (done.chip, done.way) == ("rp2040", "drive")
    assert not board.in_bootsel
    firmware = board.definition.firmware
    assert firmware is not None
    running = ask_running(lambda: board.serial_url, timeout_s=PATIENCE_S)
    compare_running(running, version=firmware.micropython, build=firmware.build)


def test_it_has_its_own_id_real_randomness_and_the_stated_heap(board: EmulatedRp2040) -> None:
    memory, chip = board.definition.memory, board.definition.flash
    assert memory is not None
    assert memory.heap_kb is not None
    assert chip is not None
    said = run(
        board,
        "import gc, machine, os\ngc.collect()\n"
        "print(machine.unique_id().hex(), os.urandom(16).hex(), os.urandom(16).hex(),"
        " gc.mem_free() + gc.mem_alloc(), os.statvfs('/')[0] * os.statvfs('/')[2])",
    )
    unique_id, first, second, heap, files = said.split()
    assert unique_id == board.unique_id.hex()
    assert first != second
    assert 0 <= int(heap) - memory.heap_kb * 1024 < 4096
    assert int(files) == chip.filesystem_kb * 1024


def test_mpremote_drives_it(board: EmulatedRp2040, tmp_path: Path) -> None:
    def mpremote(*words: str) -> str:
        command = [sys.executable, "-m", "mpremote", "connect", board.serial_url, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (tmp_path / "notes").write_text("kept on the board")
    mpremote("fs", "cp", str(tmp_path / "notes"), ":notes")
    assert "kept on the board" in mpremote("fs", "cat", ":notes")
    assert mpremote("exec", "print(6 * 7)").strip() == "42"
    mpremote("fs", "rm", ":notes")


def test_its_network_comes_up_after_each_restart(board: EmulatedRp2040) -> None:
    network = board.network
    assert network is not None
    with SerialLink.open(board.serial_url) as link:
        for count in range(BRING_UPS):
            before = network.bring_ups
            link.soft_reset(timeout_s=PATIENCE_S)
            answer = link.exec("import uplink\nprint(uplink.up(60000)[0])", PATIENCE_S)
            assert answer.strip() == "10.0.2.15", f"bring-up {count + 1}"
            assert network.bring_ups > before
    assert network.damaged == 0


def test_it_is_provisioned_enrols_and_reports(
    board: EmulatedRp2040, gateway: GatewayProcess, apps: list[App]
) -> None:
    done = provision(
        board.serial_url,
        gateway=gateway.admin,
        device_id=board.name,
        telemetry_interval_s=1,
    )
    assert done.compiled
    assert done.hardware_id == board.unique_id.hex()
    console = watch(board, apps)
    console.wait_for_event("enrolled", PATIENCE_S)
    console.wait_for_event("telemetry", PATIENCE_S)
    assert gateway.admin.telemetry(board.name)


def test_it_changes_to_a_new_certificate_when_the_gateway_wants_it(
    board: EmulatedRp2040, gateway: GatewayProcess, apps: list[App]
) -> None:
    console = apps[0].console
    # By the leaf's own life: the board's clock is behind the host's by what computing took longer.
    (issued,) = leaves(board, gateway)
    window = (issued["not_before"] + 1, issued["not_before"] + 2)
    assert gateway.admin.suggest_renewal(window, [board.name]) == 1
    renewed = console.wait_for_event("renewed", PATIENCE_S)
    console.wait_for_event("telemetry", PATIENCE_S, after=renewed.number)
    assert len(leaves(board, gateway)) == 2


_TALK = """
import gc, os, socket, tls
from mtls.store import Store

def anchor():
    for name in os.listdir('/mtls/anchor'):
        if name.startswith('tls-'):
            with open('/mtls/anchor/' + name, 'rb') as file:
                return file.read()

def talk(ca, name, shows=True):
    gc.collect()
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if shows:
        store = Store()
        identity = store.identity(store.current())
        context.load_cert_chain(identity.cert_der, identity.key_der)
    line = socket.socket()
    line.connect(({host!r}, {port}))
    try:
        secure = context.wrap_socket(line, server_hostname=name)
        secure.write(b'GET /v1/ping HTTP/1.1\\r\\nHost: ' + name.encode() + b'\\r\\n\\r\\n')
        answer = secure.read(12)
        print('answer', answer.decode())
    except (OSError, ValueError) as error:
        print('refused', error)
    finally:
        line.close()
"""


def test_only_the_right_server_name_and_certificate_make_a_connection(
    board: EmulatedRp2040, gateway: GatewayProcess, log: Path, apps: list[App]
) -> None:
    stop_watching(apps)
    port = int(gateway.urls["api"].rpartition(":")[2])
    other_ca = self_signed().certificate.public_bytes(Encoding.DER)
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset(timeout_s=PATIENCE_S)  # a heap in one piece
        link.exec("import uplink\nuplink.up(60000)", PATIENCE_S)
        link.exec(_TALK.format(host=HOST_FROM_BOARD, port=port), PATIENCE_S)

        def talk(arguments: str) -> str:
            return link.exec(f"talk({arguments})", PATIENCE_S).strip()

        assert talk(f"anchor(), {HOST_FROM_BOARD!r}") == "answer HTTP/1.1 200"
        assert "not correctly signed" in talk(f"{other_ca!r}, {HOST_FROM_BOARD!r}")
        assert "does not match" in talk("anchor(), 'other.test'")
        assert "no-certificate" not in refusals(log)
        said = talk(f"anchor(), {HOST_FROM_BOARD!r}, False")
        # It is the gateway that ends it, by an alert, and not for what else may go wrong here.
        assert "MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE" in said
        wait_until(
            lambda: "no-certificate" in refusals(log), "the gateway's word about it", PATIENCE_S
        )


def test_flashing_a_running_board_keeps_its_files_and_it_reports_again(
    board: EmulatedRp2040, gateway: GatewayProcess, apps: list[App]
) -> None:
    before = gateway.admin.telemetry(board.name)[-1]["boot_id"]
    flash(board, build_firmware(), running=True)
    console = watch(board, apps)
    boot = console.wait_for_event("boot", PATIENCE_S)
    console.wait_for_event("telemetry", PATIENCE_S, after=boot.number)
    assert gateway.admin.telemetry(board.name)[-1]["boot_id"] != before
    assert len(leaves(board, gateway)) == 2


def test_a_revoked_board_is_refused(
    board: EmulatedRp2040, gateway: GatewayProcess, apps: list[App]
) -> None:
    console = apps[0].console
    gateway.admin.revoke(board.name)
    console.wait_for_event("refused", PATIENCE_S)
    stored = len(gateway.admin.telemetry(board.name))
    console.wait_for_event("refused", PATIENCE_S, after=console.last_number)
    assert len(gateway.admin.telemetry(board.name)) == stored


def test_what_is_on_flash_when_the_power_goes_is_there_again(
    board: EmulatedRp2040, apps: list[App]
) -> None:
    stop_watching(apps)
    run(board, "with open('/kept', 'w') as file:\n file.write('kept')")
    board.power_cycle()
    assert run(board, "print(open('/kept').read())") == "kept"
    assert run(board, "import uplink\nprint(uplink.up(60000)[0])") == "10.0.2.15"


def test_power_that_fails_in_a_flash_operation_leaves_files_whole_and_an_identity(
    board: EmulatedRp2040,
) -> None:
    board.power_off()
    board.power_on(cut_after=5)
    with pytest.raises(BoardProblem):  # it is gone in the middle of this, or before
        run(
            board,
            f"for n in range(50):\n with open('/kept', 'w') as file:\n  file.write({NEW!r} * 400)",
        )
    board.wait_for_power_cut(PATIENCE_S)
    assert board.power_was_cut
    board.power_on()
    assert run(board, "print(open('/kept').read())") in ("kept", NEW * 400)
    code = (
        "from mtls.store import Store\ns = Store()\n"
        "print(s.has_seed(), bool(s.identity(s.current())))"
    )
    assert run(board, code) == "True True"
    assert "ProgramFault" not in board.log.read_text()
