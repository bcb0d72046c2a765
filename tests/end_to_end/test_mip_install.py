"""`mpremote mip install` of the library from a checkout, on a board that has none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from firmware_rig import Rig, make_rig
from provision_support import running_gateway

from handfast.resources import firmware_dir

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


@pytest.fixture(params=["sim-pico-w", "sim-esp32"])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A board with its configuration and application, and without the library."""
    name = f"mip-{request.param}"
    with (
        running_gateway(tmp_path / "gateway") as (_, gateway),
        make_rig(tmp_path / "board", name, gateway.admin, request.param) as rig,
    ):
        rig.provision(code=REMOVE)  # before the application has had a chance to start
        yield rig


def install(rig: Rig) -> str:
    """Run the real mpremote as a user would, and leave the board switched off."""
    rig.board.power_on()
    package = firmware_dir() / "package.json"
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


def test_a_board_enrols_and_reports_with_the_library_from_mip(rig: Rig) -> None:
    assert "Done" in install(rig)
    rig.start()
    rig.event("enrolled")
    rig.event("telemetry")


def test_what_mip_installs_is_the_checkout_s_library_to_the_byte(rig: Rig) -> None:
    install(rig)
    found = rig.repl(HASHES).split()
    modules = sorted((firmware_dir() / "mtls").glob("*.py"))
    wanted = [(path.name, sha256(path.read_bytes()).hexdigest()) for path in modules]
    assert list(zip(found[::2], found[1::2], strict=True)) == wanted
