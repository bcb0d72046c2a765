"""What the emulated RP2040 is built with: what is missing is named, before anything is fetched."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from handfast.boards.definition import load_board
from handfast.boards.rp2040_build import BOARD, build_firmware, node_of
from handfast.boards.slirp import SlirpNetwork
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir


def test_missing_tools_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("gcc", "make"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="apt install gcc-arm-none-eabi cmake"):
        build_firmware()


def test_a_compiler_without_its_library_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("gcc", "make", "cmake", "arm-none-eabi-g++", "arm-none-eabi-gcc"):
        (tmp_path / tool).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(EnvironmentProblem, match="apt install libnewlib-arm-none-eabi`"):
        build_firmware()


def test_a_missing_slirp_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ours, other = socket.socketpair()
    with ours, other, pytest.raises(EnvironmentProblem, match="apt install slirp"):
        SlirpNetwork(ours)


def test_a_folder_of_packages_without_a_node_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="runs on x86-64 and 64-bit Arm") as told:
        node_of(tmp_path)
    lock = json.loads((boards_dir() / BOARD / "emulator" / "package-lock.json").read_text())
    pinned = {name.removeprefix("node_modules/") for name in lock["packages"]}
    named = set(re.findall(r"node-[a-z0-9-]+", str(told.value)))
    assert named == {name for name in pinned if name.startswith("node-")}


def test_the_board_is_flashed_as_the_chip_that_it_emulates() -> None:
    definition = load_board(BOARD)
    pico = load_board("pico").flash
    assert pico is not None
    assert pico.loader is not None
    assert definition.flash is not None
    assert definition.flash.loader is not None
    assert set(definition.flash.loader.uf2_family_ids) == set(pico.loader.uf2_family_ids)
    assert definition.firmware is not None
    assert (boards_dir() / BOARD / definition.firmware.build / "mpconfigboard.h").is_file()
