"""labgrid's drivers and the strategy of handfast, each on what it is for."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
import yaml
from desk import Desk
from labgrid import Environment, Target
from labgrid.driver.exception import ExecutionError
from labgrid.resource.serialport import NetworkSerialPort
from labgrid.strategy import StrategyError
from labgrid_support import Labgrid
from provision_support import running_board, running_gateway

from handfast.boards.flash import pico as pico_flash
from handfast.boards.flash.bootloader import enter_bootloader
from handfast.boards.simulator import SimulatedBoard
from handfast.boards.sources import fetch, find_source
from handfast.errors import BoardProblem, Refused, UsageError
from handfast.lab.labgrid.places import places
from handfast.lab.labgrid.sim_bench import RemoteBench, SimBenchServer
from handfast.lab.pytest_plugin.pool import Pool

sys.path.append(str(Path(__file__).parents[1] / "host" / "flash"))
from bootsel_model import RP2040, BootselModel, uf2_file
from esp_rom_model import ESP32, EspModel, NorFlash
from flash_support import FLASH_BYTES, esp_content
from lines_model import Rfc2217Line

OLDEST, NEWEST = "1.25.0", "1.26.1"
LOCAL = "{SimulatedBoard: {profile: sim-pico-w, hardware: one}}"


def environment(folder: Path, text: str) -> Environment:
    file = folder / "env.yaml"
    file.write_text("imports: [handfast.lab.labgrid]\n" + text)
    return Environment(str(file))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Target]:
    """A simulated board on this machine: no coordinator, no exporter."""
    drivers = "[SimulatedBoardDriver: {}, MicroPythonDriver: {board: sim-pico-w}]"
    made = environment(tmp_path, f"targets: {{main: {{resources: {LOCAL}, drivers: {drivers}}}}}\n")
    target = made.get_target()
    assert target is not None
    yield target
    made.cleanup()


# MicroPythonDriver and SimulatedBoardDriver


def test_a_command_is_a_piece_of_python(here: Target) -> None:
    board = here.get_driver("CommandProtocol")
    assert board.run_check("print('one')\nprint('two')") == ["one", "two"]
    with pytest.raises(ExecutionError):
        board.run_check("1/0")
    printed, traceback, status = board.run("1/0")
    assert (printed, status) == ([], 1)
    assert traceback[-1].startswith("ZeroDivisionError")
    assert board.poll_until_success("import os", tries=1)


def test_values_and_files_go_through_the_driver(here: Target) -> None:
    board = here.get_driver("MicroPythonDriver")
    board.push({"/sum.py": b"def add(*n):\n return sum(n)\n"})
    assert board.call("sum.add", 1, 2) == 3
    assert board.exec("print(open('/sum.py').read(7))") == "def add\n"


def test_a_simulated_board_has_a_switch_and_a_button(here: Target) -> None:
    power = here.get_driver("PowerProtocol")
    board = here.get_driver("MicroPythonDriver")
    board.exec("kept = 1")
    here.get_driver("ResetProtocol").reset()
    assert board.exec("print('kept' in globals())") == "False\n"
    power.off()
    assert not power.get()
    power.on()
    power.on()  # again: it stays on
    assert power.get()
    power.cycle()
    assert board.exec("print(1)") == "1\n"


@pytest.fixture
def ser2net(tmp_path: Path) -> Path:
    """A folder with Debian's ser2net in it."""
    pinned = Path(__file__).with_name("ser2net.toml")
    folder = tmp_path / "ser2net"
    for package in tomllib.loads(pinned.read_text())["source"]:
        archive = fetch(find_source(package["name"], package["version"], file=pinned))
        subprocess.run(["dpkg", "-x", archive, folder], check=True, timeout=60)
    libraries = ":".join(str(one) for one in folder.glob("**/*-linux-gnu"))
    (modules,) = folder.glob("usr/libexec/*/gensio/*")
    program = folder / "ser2net"
    program.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={libraries} GENSIO_LIBRARY_PATH={modules}\n"
        f'exec {folder}/usr/sbin/ser2net "$@"\n'
    )
    program.chmod(0o755)
    return folder


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ser2net is pinned for amd64 only")
def test_a_board_behind_ser2net_is_a_board(tmp_path: Path, ser2net: Path) -> None:
    """As behind a Raspberry Pi: labgrid's exporter starts ser2net, which speaks RFC 2217."""
    with running_board(tmp_path / "board") as board:
        port = {"RawSerialPort": {"port": board.serial_url, "speed": 115200}}
        with Labgrid(tmp_path / "lab", {"pi": {"pico-left": port}}, ser2net) as lab:
            lab.client("-p", "pico-left", "acquire")
            file = lab.environment_file("env.yaml", ["pico-left"], "[MicroPythonDriver: {}]")
            made = Environment(str(file))
            target = made.get_target("pico-left")
            assert target is not None
            driver = target.get_driver("MicroPythonDriver")
            assert driver.url.startswith("rfc2217://127.0.0.1:")
            assert driver.exec("print('through')") == "through\n"
            driver.push({"/piece": b"\xff\x00\r\n" * 1000})  # 255 is RFC 2217's own
            assert driver.exec("print(len(open('/piece', 'rb').read()))") == "4000\n"
            made.cleanup()
            lab.client("-p", "pico-left", "release")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="ser2net is pinned for amd64 only")
def test_a_board_behind_ser2net_whose_port_goes_away_with_its_power_is_had_again(
    tmp_path: Path, ser2net: Path
) -> None:
    with ExitStack() as stack:
        # labgrid's exporter takes ports below /dev only.
        ports = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
        desk = stack.enter_context(Desk(tmp_path, native=True, ports=Path(ports)))
        assert desk.port is not None
        port = {"RawSerialPort": {"port": desk.port.url, "speed": 115200}}
        exporters = {"pi": {"pico-left": port}}
        lab = stack.enter_context(Labgrid(tmp_path / "lab", exporters, ser2net))
        off, on = (shlex.join(desk.command(word)) for word in ("off", "on"))
        power = {"cmd_off": off, "cmd_on": on, "delay": 0.0}
        drivers = [{"ExternalPowerDriver": power}, {"MicroPythonDriver": {}}]
        env = lab.environment_file("env.yaml", ["pico-left"], json.dumps(drivers))
        boards = places(Environment(str(env)))
        (tmp_path / "leases").mkdir()
        pool = Pool(boards, tmp_path / "leases", tmp_path / "boards", None, 1)
        stack.callback(pool.close)
        (leased,) = pool.lease(["power_cycle"])
        leased.exec("left_over = 1")
        leased.power_cycle()
        assert leased.answers(60), leased.silence
        assert leased.exec("print('left_over' in dir())") == "False\n"
        os.kill(desk.board.pid or 0, signal.SIGSTOP)
        pool.give_back(leased)
        assert leased.notes == ["it does not answer", "reset: it answers again"]
        assert pool.quarantined == {}


# Flashing


def test_an_esp32_behind_a_serial_server_is_flashed(tmp_path: Path) -> None:
    image = tmp_path / "firmware.bin"
    image.write_bytes(esp_content("ESP32"))
    line = Rfc2217Line(EspModel(ESP32, NorFlash(tmp_path / "flash", FLASH_BYTES)))
    try:
        port = int(line.url.partition("?")[0].rpartition(":")[2])
        made = environment(
            tmp_path,
            f"images: {{firmware: {image}}}\n"
            "targets: {main: {resources: {NetworkSerialPort: "
            f"{{host: 127.0.0.1, port: {port}}}}},\n"
            "  drivers: [EspFlashDriver: {board: esp32}, PicoBootDriver: {board: pico}]}}\n",
        )
        target = made.get_target()
        assert target is not None
        assert isinstance(target.get_resource(NetworkSerialPort), NetworkSerialPort)
        done = target.get_driver("EspFlashDriver").load()
        assert (done.chip, done.written) == ("esp32", len(image.read_bytes()))
        assert line.model.flash.read(0x1000, done.written) == image.read_bytes()
        with pytest.raises(Refused):
            target.get_driver("EspFlashDriver").load(str(__file__))
        with pytest.raises(UsageError, match="does not say where the board is plugged in"):
            target.get_driver("PicoBootDriver").load(str(uf2(tmp_path)))
        made.cleanup()
    finally:
        line.close()


def uf2(folder: Path) -> Path:
    content = Random(5).randbytes(9000)  # noqa: S311 - the same octets each time
    file = folder / "firmware.uf2"
    file.write_bytes(uf2_file(content, 0xE48BFF56))
    return file


def when_told(monkeypatch: pytest.MonkeyPatch, show: Callable[[], object]) -> None:
    """A simulated board has no bootloader: its drive's model comes when it was told to show it."""

    def enter_and_show(url: str) -> None:
        enter_bootloader(url)
        show()

    monkeypatch.setattr(pico_flash, "enter_bootloader", enter_and_show)


def test_a_pico_is_flashed_through_its_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", f"..{tmp_path}")  # whose drives are mounted in /media/<name>
    image = uf2(tmp_path)
    models: list[BootselModel] = []
    when_told(monkeypatch, lambda: models.append(BootselModel(RP2040, tmp_path)))
    try:
        with running_board(tmp_path / "board") as board:
            made = environment(
                tmp_path,
                f"images: {{firmware: {image}}}\n"
                f"targets: {{main: {{resources: {{RawSerialPort: {{port: {board.serial_url}}}}},\n"
                "  drivers: [PicoBootDriver: {board: pico-w}, EspFlashDriver: {board: pico}]}}\n",
            )
            target = made.get_target()
            assert target is not None
            done = target.get_driver("PicoBootDriver").load()
            assert (done.chip, done.way) == ("rp2040", "drive")
            (model,) = models
            assert model.restarted.wait(60)
            (address,) = struct.unpack_from("<I", image.read_bytes(), 12)
            assert address == 0x10000000
            assert model.flash[:9000] == Random(5).randbytes(9000)  # noqa: S311
            with pytest.raises(UsageError, match="pico is flashed by uf2: take PicoBootDriver"):
                target.get_driver("EspFlashDriver").load()
            made.cleanup()
    finally:
        for model in models:
            model.close()


# The strategy


def test_the_strategy_leads_from_off_to_running_and_back(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "state") as (_state, _gateway):
        drivers = yaml.safe_dump(
            [
                {"SimulatedBoardDriver": {}},
                {"MicroPythonDriver": {"board": "sim-pico-w"}},
                {
                    "HandfastStrategy": {
                        "version": "1.26.1",
                        "gateway": "state",
                        "device_id": "bench-1",
                    }
                },
            ],
            default_flow_style=True,
        )
        made = environment(
            tmp_path, f"targets: {{main: {{resources: {LOCAL}, drivers: {drivers}}}}}\n"
        )
        target = made.get_target()
        assert target is not None
        strategy = target.get_driver("HandfastStrategy")
        strategy.transition("running")
        board = target.get_driver("MicroPythonDriver")
        power = target.get_driver("PowerProtocol")
        assert "slot-a" in board.exec("import os\nprint(os.listdir('/mtls'))")
        assert strategy.status.name == "running"
        strategy.transition("off")
        assert not power.get()
        strategy.transition("flashed")
        assert power.get()
        strategy.transition("running")  # its identity outlived that
        strategy.transition("provisioned")  # one before: by way of off
        assert strategy.status.name == "provisioned"
        made.cleanup()


class Pico:
    """A Pico that runs one MicroPython, and another once its BOOTSEL drive has had an image.

    What a simulated board runs does not come from the image: two stand for one, behind one link.
    """

    def __init__(self, folder: Path, stack: ExitStack, before: str, after: str) -> None:
        self.port = folder / "ttyACM0"
        boards = []
        for number, version in enumerate((before, after)):
            directory = folder / f"board-{number}"
            board = SimulatedBoard("sim-pico-w", directory=directory, micropython=version)
            stack.enter_context(board).power_on()
            boards.append(board)
        self.port.symlink_to(boards[0].serial_url)
        self._after = boards[1].serial_url
        self._folder, self._stack = folder, stack
        self.drive: BootselModel | None = None

    def show_drive(self) -> None:
        self.drive = _PicosDrive(self, self._folder)
        self._stack.callback(self.drive.close)

    def restart(self) -> None:
        self.port.unlink()
        self.port.symlink_to(self._after)


class _PicosDrive(BootselModel):
    def __init__(self, pico: Pico, folder: Path) -> None:
        self._pico = pico
        super().__init__(RP2040, folder)

    def _restart(self) -> None:
        self._pico.restart()
        super()._restart()


@pytest.mark.parametrize(
    ("before", "after", "wanted", "loads"),
    [
        (OLDEST, NEWEST, NEWEST, True),
        (NEWEST, NEWEST, NEWEST, False),
        (NEWEST, NEWEST, "", True),  # then nobody can say whether it is flashed
        (OLDEST, OLDEST, NEWEST, True),
    ],
    ids=["another version", "flashed before", "any version", "the wrong image"],
)
def test_the_strategy_flashes_a_board_that_does_not_run_what_it_should(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    wanted: str,
    loads: bool,
) -> None:
    monkeypatch.setenv("LOGNAME", f"..{tmp_path}")  # whose drives are mounted in /media/<name>
    image = uf2(tmp_path)
    with ExitStack() as stack:
        pico = Pico(tmp_path, stack, before, after)
        when_told(monkeypatch, pico.show_drive)
        made = environment(
            tmp_path,
            f"images: {{firmware: {image}}}\n"
            f"targets: {{main: {{resources: {{RawSerialPort: {{port: {pico.port}}}}},\n"
            "  drivers: [PicoBootDriver: {board: pico-w}, MicroPythonDriver: {},\n"
            f"    HandfastStrategy: {{version: '{wanted}'}}]}}}}\n",
        )
        stack.callback(made.cleanup)
        target = made.get_target()
        assert target is not None
        strategy = target.get_driver("HandfastStrategy")
        if wanted in (after, ""):
            strategy.transition("flashed")
            assert strategy.status.name == "flashed"
        else:
            with pytest.raises(StrategyError) as raised:
                strategy.transition("flashed")
            assert (
                str(raised.value.__cause__) == f"the board runs MicroPython {after}, not {wanted}"
            )
        assert (pico.drive is not None) == loads
        if pico.drive is not None:
            assert pico.drive.restarted.wait(60)
            assert pico.drive.flash[:9000] == Random(5).randbytes(9000)  # noqa: S311
        board = target.get_driver("MicroPythonDriver")
        version = board.exec("import sys\nprint('.'.join(map(str, sys.implementation[1][:3])))")
        assert version == f"{after}\n"


def test_a_strategy_says_what_is_wrong_and_stays_broken(tmp_path: Path) -> None:
    drivers = (
        "[SimulatedBoardDriver: {}, MicroPythonDriver: {}, HandfastStrategy: {version: 9.9.9}]"
    )
    made = environment(tmp_path, f"targets: {{main: {{resources: {LOCAL}, drivers: {drivers}}}}}\n")
    target = made.get_target()
    assert target is not None
    strategy = target.get_driver("HandfastStrategy")
    for _ in range(2):
        with pytest.raises(StrategyError) as raised:
            strategy.transition("flashed")
        assert str(raised.value.__cause__) == "the board runs MicroPython 1.26.1, not 9.9.9"
    made.cleanup()


def test_a_strategy_without_a_switch_or_a_gateway_says_so(tmp_path: Path) -> None:
    with running_board(tmp_path / "board") as board:
        for state, said in (
            ("off", "nothing switches main off"),
            ("running", "no gateway for main: name its state folder"),
        ):
            made = environment(
                tmp_path,
                f"targets: {{main: {{resources: {{RawSerialPort: {{port: {board.serial_url}}}}},\n"
                "  drivers: [MicroPythonDriver: {}, HandfastStrategy: {}]}}\n",
            )
            target = made.get_target()
            assert target is not None
            with pytest.raises(StrategyError) as raised:
                target.get_driver("HandfastStrategy").transition(state)
            assert said in str(raised.value.__cause__)
            made.cleanup()


def test_a_bench_that_is_gone_says_so() -> None:
    server = SimBenchServer("sim-pico-w", "one", "127.0.0.1")
    bench = RemoteBench(f"socket://127.0.0.1:{server.port}", "127.0.0.1", server.control_port)
    bench.power_off()
    with pytest.raises(BoardProblem, match="is switched off"):
        bench.reset()
    bench.power_cycle(rtc=1_800_000_000)
    assert bench.is_on()
    server.close()
    with pytest.raises(BoardProblem, match="see whether its exporter runs"):
        bench.power_off()
    bench.close()
