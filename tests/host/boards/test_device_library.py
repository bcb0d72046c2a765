"""The library for a board: bytecode of its version by a compiler that fits, else the source."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from handfast.boards.builder import build_mpy_cross
from handfast.boards.device_code import compact
from handfast.boards.device_code.layout import read_layout
from handfast.boards.device_library import DeviceLibrary, device_library, source_name
from handfast.lab.demo.keysearch import keys_in_flash
from handfast.resources import firmware_dir

_BOARD_MPY = 6 | 3 << 8 | 2 << 10  # version 6.3, and an architecture that bytecode does not have
LAYOUT = read_layout(firmware_dir() / "layout.toml")
SOURCES = {path.name: path.read_bytes() for path in (firmware_dir() / "mtls").glob("*.py")}

MADE = compact({name[:-3]: text.decode() for name, text in SOURCES.items()}, LAYOUT)


def path_with(monkeypatch: pytest.MonkeyPatch, folder: Path, compiler: Path | None) -> None:
    """Let the only mpy-cross that is installed be this one."""
    if compiler is not None:
        shutil.copy(compiler, folder / "mpy-cross")
    monkeypatch.setenv("PATH", str(folder))


def check_compiled(library: DeviceLibrary, compiler: str) -> None:
    assert library.compiler == compiler
    files = {name.removesuffix(".mpy") for name in library.files}
    assert files == set(MADE.files)
    assert library.functions == MADE.functions
    assert all(content[:2] == b"M\x06" for content in library.files.values())


def test_a_pinned_version_is_compiled_by_its_own_compiler_to_the_same_bytes_again() -> None:
    library = device_library("1.26.1", _BOARD_MPY)
    check_compiled(library, "1.26.1")
    assert device_library("1.26.1", _BOARD_MPY) == library
    assert sum(map(len, library.files.values())) < sum(map(len, SOURCES.values())) / 2


@pytest.mark.parametrize("version", ["1.25.0", "1.26.1"])
def test_no_bytecode_looks_like_a_private_key(version: str) -> None:
    """Whoever searches a board's raw flash for keys, the board itself included, finds it there."""
    library = device_library(version, _BOARD_MPY)
    files = {**library.files, **library.packed}
    assert [name for name, content in files.items() if keys_in_flash(content)] == []
    assert [name for name, content in files.items() if b"\x00\x79\x30\x77\x02" in content] == []


def test_another_version_takes_the_compiler_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path_with(monkeypatch, tmp_path, build_mpy_cross(micropython="1.26.1"))
    check_compiled(device_library("1.27.0", _BOARD_MPY), "installed")


@pytest.mark.parametrize("mpy", [0, 5, 7])
def test_a_board_of_another_bytecode_gets_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mpy: int
) -> None:
    path_with(monkeypatch, tmp_path, build_mpy_cross(micropython="1.26.1"))
    assert device_library("1.27.0", mpy) == DeviceLibrary(SOURCES, None)


def test_without_a_compiler_the_board_gets_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path_with(monkeypatch, tmp_path, None)
    assert device_library("1.27.0", _BOARD_MPY) == DeviceLibrary(SOURCES, None)


def test_a_compiler_that_fails_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    path_with(monkeypatch, tmp_path, broken)
    assert device_library("1.27.0", _BOARD_MPY) == DeviceLibrary(SOURCES, None)


def test_a_name_in_a_traceback_leads_to_the_source() -> None:
    short = next(n for n, own in MADE.functions["agent"].items() if own == "issuance.renew")
    assert source_name("agent", short) == "issuance.renew"
    assert source_name("agent", "no_such") is None
    assert source_name("main.py", "start") is None
