"""`handfast firmware build` for a board of the user's, from a checkout, and what it built boots."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rp2040_support import run

from benchmarks.firmware_matrix import EVIDENCE
from handfast.boards.firmware_options import ALL
from handfast.boards.rp2040 import EmulatedRp2040
from handfast.boards.rp2040_build import find_sources, unpack_port
from handfast.resources import boards_dir

BOARD = "mine"
BUILD_S = 500.0  # several times what it takes beside another build
# What a Pico's definition lacks for `tls`, which is in no build without a network.
NETWORK = """
#undef MICROPY_HW_FLASH_STORAGE_BYTES
#define MICROPY_HW_FLASH_STORAGE_BYTES (848 * 1024)
#define MICROPY_PY_NETWORK (1)
#define MICROPY_PY_NETWORK_PPP_LWIP (1)
#define MICROPY_PY_NETWORK_HOSTNAME_DEFAULT "mine"
"""

pytestmark = pytest.mark.timeout(900)  # with the build


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned archives as a checkout; the radio's driver, which they lack, is there in name.

    They have no micropython-lib either, whose drivers the port freezes into each board.
    """
    tree = unpack_port(find_sources("1.26.1"), tmp_path_factory.mktemp("checkout"), print)
    for name in ("cyw43-driver", "btstack"):
        (tree / "lib" / name / "src").mkdir(parents=True, exist_ok=True)
    (tree / "ports" / "rp2" / "boards" / "manifest.py").write_text(
        'freeze("$(PORT_DIR)/modules")\ninclude("$(MPY_DIR)/extmod/asyncio")\n'
    )
    return tree


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """Build by the definition of a Pico W, made one of a Pico with PPP in place of the radio."""
    folder = tmp_path_factory.mktemp("boards") / BOARD
    shutil.copytree(boards_dir() / "pico-w" / "firmware", folder / "firmware")
    text = (boards_dir() / "pico" / "board.toml").read_text()
    (folder / "board.toml").write_text(text.replace('name = "pico"', f'name = "{BOARD}"'))
    for file in (folder / "firmware").iterdir():
        kept = [line for line in file.read_text().splitlines() if "MANIFEST" not in line]
        file.write_text("\n".join(kept).replace("RPI_PICO_W", "RPI_PICO") + "\n")
    header, cmake = (folder / "firmware" / f"mpconfigboard.{kind}" for kind in ("h", "cmake"))
    header.write_text(header.read_text() + NETWORK)
    cmake.write_text("set(MICROPY_PY_LWIP ON)\n" + cmake.read_text())
    out = folder.parent / "out"
    command = [sys.executable, "-m", "handfast", "firmware", "build", BOARD, "--json"]
    done = subprocess.run(
        [*command, "--with", ",".join(ALL), "--micropython", checkout, "--out", out],
        env=os.environ | {"HANDFAST_BOARDS": str(folder.parent)},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["file"])


def test_firmware_of_ones_own_boots_with_all_that_it_was_to_have(
    tmp_path: Path, built: Path
) -> None:
    asked = ", ".join(EVIDENCE[name] for name in ALL if name in EVIDENCE)
    with EmulatedRp2040(directory=tmp_path / "chip", name=BOARD, network=False) as chip:
        chip.install_firmware(built)
        chip.power_on()
        said = run(
            chip,
            f"import mtls, sys, tls\nprint(sys.implementation._build)\nprint([{asked}])",
        )
    assert said.splitlines() == ["RPI_PICO", str([True] * (len(ALL) - 1))]
