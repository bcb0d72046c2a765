"""What labgrid reaches by SSH: a Pico's drive on an exporter's machine, and ports through tunnels.

The client is the system's ssh, the server asyncssh's: sshd needs a user and folders of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import asyncssh
import pytest
from labgrid import Environment
from labgrid.util.ssh import sshmanager
from labgrid_support import ROOT, Labgrid, simulated
from provision_support import running_board

from handfast.errors import BoardProblem, EnvironmentProblem, UsageError
from handfast.lab.labgrid.places import places

sys.path += [str(Path(__file__).parents[1] / "host" / name) for name in ("flash", "serial")]
from bootsel_model import RP2040, BootselModel, uf2_file
from cable import NativePort

CONTENT = Random(5).randbytes(9000)  # noqa: S311 - the same octets each time


class _AnyKeyOfOurs(asyncssh.SSHServer):
    def connection_requested(self, *_: object) -> bool:
        return True  # a tunnel to wherever


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run what the client asks for, as sshd would."""
    if process.command == "cat":  # by which labgrid sees that the connection lives
        await process.stdin.read()
        process.exit(0)
        return
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", process.command or "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
        check=False,
    )
    process.stdout.write(done.stdout)
    process.stderr.write(done.stderr)
    process.exit(done.returncode)


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that every ``ssh HOST`` of this process reaches; what it was asked to run."""
    program = shutil.which("ssh")
    assert program is not None, "scripts/setup.sh dev installs openssh-client"
    host, user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(user.export_private_key())
    allowed = asyncssh.import_authorized_keys(user.export_public_key().decode())
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asked: list[str] = []

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        asked.append(process.command or "")
        await _run(process)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            _AnyKeyOfOurs, "127.0.0.1", 0, server_host_keys=[host], encoding=None,
            authorized_client_keys=allowed, process_factory=serve,
        )  # fmt: skip

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(20)
    known = tmp_path / "known_hosts"
    known.write_bytes(b"* " + host.export_public_key())
    settings = tmp_path / "ssh_config"
    settings.write_text(
        f"Host *\n HostName 127.0.0.1\n Port {server.get_port()}\n IdentityFile {key}\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {known}\n GlobalKnownHostsFile none\n"
    )
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {program} -F {settings} "$@"\n')
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield asked
    sshmanager.close_all()
    server.close()
    asyncio.run_coroutine_threadsafe(_end_all(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)


def tool(folder: Path) -> Path:
    """``handfast`` as the exporter's machine has it, whose drives are mounted below ``folder``."""
    path = folder / "handfast"
    path.write_text(
        f"#!/bin/sh\nPYTHONPATH={ROOT / 'host'} LOGNAME=..{folder} "
        f'exec {sys.executable} -m handfast "$@"\n'
    )
    path.chmod(0o755)
    return path


def pico(folder: Path, image: Path, line: str) -> Any:
    """A driver for a Pico at ``line`` of the machine pi-1."""
    env = folder / "env.yaml"
    env.write_text(
        f"imports: [handfast.lab.labgrid]\nimages: {{firmware: {image}}}\n"
        f"tools: {{handfast: {tool(folder)}}}\n"
        "targets: {main: {resources: {NetworkSerialPort: {host: pi-1, port: 1}},\n"
        "  drivers: [PicoBootDriver: {board: pico-w}]}}\n"
    )
    target = Environment(str(env)).get_target()
    assert target is not None
    (port,) = target.resources
    port.extra = {"path": line}  # as an exporter says
    return target.get_driver("PicoBootDriver")


def test_a_pico_is_flashed_where_it_is_plugged_in(tmp_path: Path, ssh: list[str]) -> None:
    image = tmp_path / "firmware.uf2"
    image.write_bytes(uf2_file(CONTENT, 0xE48BFF56))
    line = tmp_path / "ttyACM0"
    models: list[BootselModel] = []
    with (
        running_board(tmp_path / "board") as board,
        NativePort(board.serial_url, line, leaves_after=b"machine.bootloader()") as port,
    ):

        def show_drive() -> None:
            port.wait_until_cut()
            models.append(BootselModel(RP2040, tmp_path))

        shown = threading.Thread(target=show_drive, daemon=True)
        shown.start()
        driver = pico(tmp_path, image, str(line))
        driver.load()
        shown.join()
        (model,) = models
        model.close()
        assert model.flash[: len(CONTENT)] == CONTENT
        # labgrid's own `cat`, which keeps the connection up, may come before or after it.
        assert any(f"board flash --board pico-w --port {line}" in command for command in ssh)

        driver.target.resources[0].extra = {"path": "/dev/no-such-port"}
        with pytest.raises(BoardProblem, match="there is no board at /dev/no-such-port"):
            driver.load()


def test_an_isolated_exporters_board_is_reached_through_a_tunnel(
    tmp_path: Path, ssh: list[str]
) -> None:
    with Labgrid(tmp_path / "lab", {"one": simulated("left")}, options=("--isolated",)) as lab:
        drivers = "[SimulatedBoardDriver: {}, MicroPythonDriver: {}]"
        env = Environment(str(lab.environment_file("env.yaml", ["left"], drivers)))
        (candidate,) = places(env)
        place = candidate.place
        assert place is not None
        taken = place.take(tmp_path)
        assert taken is not None
        assert place.bench.serial_url.startswith("socket://localhost:")
        place.bench.renew()
        taken.release()
        place.close()
    assert set(ssh) <= {"cat"}


def test_a_machine_that_is_not_reached_is_said(tmp_path: Path, ssh: list[str]) -> None:
    settings = tmp_path / "ssh_config"
    settings.write_text(settings.read_text().replace("IdentityFile", "IdentityFile /nowhere #"))
    image = tmp_path / "firmware.uf2"
    image.write_bytes(uf2_file(CONTENT, 0xE48BFF56))
    driver = pico(tmp_path, image, "/dev/ttyACM0")
    with pytest.raises(EnvironmentProblem, match="was not brought to pi-1 by SSH"):
        driver.load()
    assert ssh == []
    driver.target.resources[0].extra = {}
    with pytest.raises(UsageError, match="does not say where the board is plugged in"):
        driver.load()
