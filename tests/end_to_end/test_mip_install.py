"""`mpremote mip install` of the library, on a board that has none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, make_rig
from provision_support import running_gateway

from handfast.boards.device_library import device_library
from handfast.resources import firmware_dir

CHECKOUT = firmware_dir() / "package.json"
REMOVE = """
import os
for name in os.listdir('/lib/mtls'):
    os.remove('/lib/mtls/' + name)
os.rmdir('/lib/mtls')
"""
HASHES = """
import os, hashlib
for name in sorted(os.listdir('/lib/mtls')):
    with open('/lib/mtls/' + name, 'rb') as file:
        print(name, hashlib.sha256(file.read()).digest().hex())
"""


@pytest.fixture(params=SIMULATED)
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A board with its configuration and application, and without the library."""
    name = f"mip-{request.param}".replace("+", "-")
    with (
        running_gateway(tmp_path / "gateway") as (_, gateway),
        make_rig(tmp_path / "board", name, gateway.admin, request.param) as rig,
    ):
        rig.provision(code=REMOVE)  # before the application has had a chance to start
        yield rig


def install(rig: Rig, package: Path) -> str:
    """Run the real mpremote as a user would, and leave the board switched off."""
    rig.board.power_on()
    mpremote = [sys.executable, "-m", "mpremote", "connect", rig.board.serial_url]
    done = subprocess.run(
        [*mpremote, "mip", "install", package],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    rig.board.power_off()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compact(folder: Path) -> Path:
    """Have the compact library written as a user would; return its package.json."""
    command = [sys.executable, "-m", "handfast", "firmware", "library", "--out", folder]
    subprocess.run([*command, "--mpy", "6.3"], check=True, capture_output=True, timeout=120)
    return folder / "package.json"


def hashes(files: Iterable[Path]) -> list[tuple[str, str]]:
    return [(path.name, sha256(path.read_bytes()).hexdigest()) for path in sorted(files)]


@pytest.mark.parametrize("form", ["checkout", "compact"])
def test_a_board_enrols_and_reports_with_the_library_from_mip(
    rig: Rig, tmp_path: Path, form: str
) -> None:
    package = CHECKOUT if form == "checkout" else compact(tmp_path / "library")
    assert "Done" in install(rig, package)
    rig.start()
    rig.event("enrolled")
    rig.event("telemetry")


def test_what_mip_installs_is_the_checkout_s_library_to_the_byte(rig: Rig) -> None:
    install(rig, CHECKOUT)
    found = rig.repl(HASHES).split()
    wanted = hashes((firmware_dir() / "mtls").glob("*.py"))
    assert list(zip(found[::2], found[1::2], strict=True)) == wanted


def test_compact_bytecode_that_mip_installs_is_what_provisioning_gives(
    rig: Rig, tmp_path: Path
) -> None:
    install(rig, compact(tmp_path / "library"))
    found = rig.repl(HASHES).split()
    files = device_library("1.26.1", 6).packed
    wanted = sorted((name, sha256(content).hexdigest()) for name, content in files.items())
    assert list(zip(found[::2], found[1::2], strict=True)) == wanted
