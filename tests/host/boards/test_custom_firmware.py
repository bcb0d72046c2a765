"""Custom firmware: what a build needs, what it says is missing, and what cmake is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from handfast.boards.archives import unpack
from handfast.boards.builder import MBEDTLS_VERSION
from handfast.boards.custom_firmware import (
    ESP_IDF_VERSION,
    build_custom_firmware,
    missing_for,
)
from handfast.boards.definition import load_board
from handfast.boards.firmware_options import OPTIONS
from handfast.boards.flash.esp_image import (
    CHIP_IDS,
    read_esp_image,
    refuse_without_bootloader,
    refuse_wrong_chip,
)
from handfast.boards.flash.uf2 import read_uf2
from handfast.boards.qemu_mps2_build import build_qemu_mps2
from handfast.boards.rp2_build import PICO_SDK_VERSION
from handfast.boards.sources import fetch, find_source
from handfast.errors import EnvironmentProblem, UsageError
from handfast.resources import boards_dir

DEFINED = ["esp32", "esp32-c3", "esp32-c6", "esp32-s3", "pico-w", "pico2-w"]
# A port that says what it was configured with, in place of one that takes minutes and a radio's
# driver: our board definition and options are read by the real cmake.
PORT = """
cmake_minimum_required(VERSION 3.13)
get_filename_component(MICROPY_DIR "../.." ABSOLUTE)
set(MICROPY_PORT_DIR ${CMAKE_CURRENT_LIST_DIR})
include(${MICROPY_BOARD_DIR}/mpconfigboard.cmake)
include(${MICROPY_BOARD_DIR}/mpconfigvariant.cmake OPTIONAL)
project(firmware NONE)
foreach(name MICROPY_BOARD MICROPY_DEF_BOARD MICROPY_SOURCE_BOARD MICROPY_FROZEN_MANIFEST
        MICROPY_BOARD_PINS MBEDTLS_CONFIG_FILE PICO_BOARD PICO_PLATFORM)
    string(APPEND said "${name}=${${name}}\\n")
endforeach()
file(GLOB_RECURSE headers RELATIVE ${MICROPY_DIR} ${MICROPY_DIR}/lib/mbedtls/include/*.h)
file(GLOB builds RELATIVE ${MICROPY_DIR} ${MICROPY_DIR}/mpy-cross/build* build*)
if(EXISTS ${MICROPY_FROZEN_MANIFEST})
    file(STRINGS ${MICROPY_FROZEN_MANIFEST} frozen LIMIT_COUNT 1)
    string(APPEND said "frozen=${frozen}\\n")
endif()
string(APPEND said "headers=${headers}\\nbuilds=${builds}\\n")
file(WRITE ${CMAKE_BINARY_DIR}/firmware.bin "${said}")
add_custom_target(nothing ALL)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build of ours reads of MicroPython, and PORT; submodules are there in name."""
    root = tmp_path_factory.mktemp("micropython")
    parts = ("py/", "extmod/", "shared/", "lib/libm/", "tools/", "mpy-cross/", "drivers/")
    ports = ("ports/rp2/boards/", "ports/esp32/boards/", "ports/esp32/makeimg.py")
    unpack(fetch(find_source("micropython", "1.26.1")), root, parts=parts + ports)
    mbedtls = fetch(find_source("mbedtls", MBEDTLS_VERSION))
    unpack(mbedtls, root / "lib" / "mbedtls", parts=("library/", "include/"))
    for file in (
        "pico-sdk/pico_sdk_init.cmake",
        "micropython-lib/README.md",
        "berkeley-db-1.xx/db/README",
        *(f"{name}/src/README" for name in ("tinyusb", "lwip", "cyw43-driver", "btstack")),
    ):
        (root / "lib" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "lib" / file).touch()
    major, minor, revision = PICO_SDK_VERSION.split(".")
    (root / "lib" / "pico-sdk" / "pico_sdk_version.cmake").write_text(
        f"set(PICO_SDK_VERSION_MAJOR {major})\nset(PICO_SDK_VERSION_MINOR {minor})\n"
        f"set(PICO_SDK_VERSION_REVISION {revision})\n"
    )
    (root / "ports" / "rp2" / "CMakeLists.txt").write_text(PORT)
    return root


def idf(folder: Path, version: str = ESP_IDF_VERSION) -> Path:
    file = folder / "idf" / "tools" / "cmake" / "version.cmake"
    file.parent.mkdir(parents=True)
    names = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    file.write_text("".join(f"set(IDF_VERSION_{name} {number})\n" for name, number in names))
    return folder / "idf"


# What a build by ESP-IDF leaves: its four files, as MicroPython's makeimg.py reads them.
IDF_MODEL = """#!/usr/bin/env python3
import pathlib, struct, sys

out = pathlib.Path(sys.argv[sys.argv.index("-B") + 1])

def put(name, content):
    file = out / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)

def part(name, kind, below, offset, size):
    return struct.pack("<2sBBLL16sL", b"\\xaa\\x50", kind, below, offset, size, name, 0)

put("bootloader/bootloader.bin", b"\\xe9" + bytes(11) + struct.pack("<H", CHIP) + b"B" * 0x3000)
put(
    "partition_table/partition-table.bin",
    part(b"nvs", 1, 2, 0x9000, 0x6000)
    + part(b"factory", 0, 0, 0x10000, 0x1f0000)
    + part(b"vfs", 1, 0x81, 0x200000, 0x200000)
    + b"\\xff" * 32,
)
put("micropython.bin", b"\\xe9" + " ".join(sys.argv).encode())
put(
    "sdkconfig",
    b"CONFIG_BOOTLOADER_OFFSET_IN_FLASH=OFFSET\\n"
    b"CONFIG_PARTITION_TABLE_OFFSET=0x8000\\n",
)
"""
# ESP-IDF's reader of partition tables, as far as makeimg.py uses it.
GEN_ESP32PART_MODEL = """
import collections, struct

APP_TYPE = 0
Part = collections.namedtuple("Part", "type subtype offset size name")

class PartitionTable:
    @staticmethod
    def from_binary(content):
        entries = struct.iter_unpack("<2sBBLL16sL", content)
        return [
            Part(*entry[1:5], entry[5].rstrip(b"\\0").decode())
            for entry in entries
            if entry[0] == b"\\xaa\\x50"
        ]
"""


def idf_model(folder: Path, chip_id: int, offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a model of ESP-IDF into the environment: it compiles nothing."""
    root = idf(folder)
    tool = root / "tools" / "idf.py"
    tool.write_text(IDF_MODEL.replace("CHIP", str(chip_id)).replace("=OFFSET", f"={offset:#x}"))
    tool.chmod(0o755)
    parts = root / "components" / "partition_table" / "gen_esp32part.py"
    parts.parent.mkdir(parents=True)
    parts.write_text(GEN_ESP32PART_MODEL)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IDF_PATH", str(root))


def configured(board: str, options: tuple[str, ...], checkout: Path, out: Path) -> dict[str, str]:
    """Build; return what PORT says it was configured with, from the image."""
    built = build_custom_firmware(board, options, micropython=checkout, out=out)
    assert built.file == out / f"{'-'.join((board, *sorted(options)))}.uf2"
    content = built.file.read_bytes()
    image = read_uf2(content, source=str(built.file))
    text = b"".join(data for _, data in image.pieces()).rstrip(b"\0").decode()
    return dict(line.split("=", 1) for line in text.splitlines())


# ---- What cmake is told ----


@pytest.mark.parametrize(
    ("board", "stock", "platform"),
    [("pico-w", "RPI_PICO_W", ""), ("pico2-w", "RPI_PICO2_W", "rp2350")],
)
def test_definition_is_micropythons_own_where_no_option_changes_it(
    checkout: Path, tmp_path: Path, board: str, stock: str, platform: str
) -> None:
    said = configured(board, (), checkout, tmp_path)
    assert said["MICROPY_BOARD"] == stock
    assert said["PICO_BOARD"] == stock.removeprefix("RPI_").lower()
    assert said["PICO_PLATFORM"] == platform
    for name, file in (
        ("MICROPY_FROZEN_MANIFEST", "manifest.py"),
        ("MICROPY_BOARD_PINS", "pins.csv"),
    ):
        assert said[name].endswith(f"/ports/rp2/boards/{stock}/{file}")


def test_every_option_tells_cmake_what_it_changes(checkout: Path, tmp_path: Path) -> None:
    said = configured("pico-w", tuple(OPTIONS), checkout, tmp_path)
    macros = set(said["MICROPY_DEF_BOARD"].split(";"))
    assert {"MICROPY_PY_SSL_SESSION=1", "MICROPY_PY_SSL_ECDSA_SIGN_ALT=1"} <= macros
    assert {f"HANDFAST_{name.replace('-', '_')}=1" for name in OPTIONS} <= macros
    sources = said["MICROPY_SOURCE_BOARD"].split(";")
    assert sum("/lib/mbedtls/library/" in source for source in sources) == 20
    assert any(source.endswith("/extmod/mbedtls/mbedtls_alt.c") for source in sources)
    assert said["MBEDTLS_CONFIG_FILE"].endswith("/rp2_mbedtls_config.h")
    assert said["MICROPY_FROZEN_MANIFEST"].endswith("/handfast_manifest.py")


def test_the_users_checkout_is_left_as_it_is(checkout: Path, tmp_path: Path) -> None:
    file = checkout / "extmod" / "modtls_mbedtls.c"
    before = file.read_bytes()
    files = {path for path in checkout.rglob("*") if path.is_file()}
    configured("pico-w", ("session-resumption", "tls13"), checkout, tmp_path)
    assert file.read_bytes() == before
    assert {path for path in checkout.rglob("*") if path.is_file()} == files


def test_every_header_of_the_checkout_is_built_with_and_nothing_that_was_built_in_it(
    checkout: Path, tmp_path: Path
) -> None:
    left = [checkout / "ports" / "rp2" / "build-RPI_PICO_W", checkout / "mpy-cross" / "build"]
    for folder in left:
        folder.mkdir()
    try:
        said = configured("pico-w", (), checkout, tmp_path)
    finally:
        for folder in left:
            folder.rmdir()
    folder = checkout / "lib" / "mbedtls" / "include"
    headers = {str(path.relative_to(checkout)) for path in folder.rglob("*.h")}
    assert {f"lib/mbedtls/include/{of}/build_info.h" for of in ("mbedtls", "psa")} <= headers
    assert set(said["headers"].split(";")) == headers
    assert said["builds"] == ""


def test_failed_build_shows_what_the_tool_said(checkout: Path, tmp_path: Path) -> None:
    port = checkout / "ports" / "rp2" / "CMakeLists.txt"
    port.write_text('message(FATAL_ERROR "the radio is on fire")\n')
    try:
        with pytest.raises(EnvironmentProblem, match="the radio is on fire"):
            build_custom_firmware("pico-w", (), micropython=checkout, out=tmp_path)
    finally:
        port.write_text(PORT)


def test_failed_build_shows_the_compilers_error_and_names_its_log(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other jobs print after the error is longer than what is shown."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    port = checkout / "ports" / "rp2" / "CMakeLists.txt"
    after = "; ".join(["echo a.c:7: error: no such radio", *(f"echo CC {n}.c" for n in range(90))])
    port.write_text(
        f'{PORT}add_custom_target(radio ALL COMMAND sh -c "{after}; exit 1" VERBATIM)\n'
    )
    try:
        with pytest.raises(EnvironmentProblem, match="firmware for pico-w failed") as failed:
            build_custom_firmware("pico-w", ("tls13",), micropython=checkout, out=tmp_path)
    finally:
        port.write_text(PORT)
    log = tmp_path / "cache" / "handfast" / "logs" / "custom-pico-w-tls13.log"
    assert f"from {log}:\na.c:7: error: no such radio\n" in str(failed.value)
    assert "CC 40.c" not in str(failed.value)
    assert "CC 40.c" in log.read_text()


def test_library_is_frozen_beside_the_ports_manifest_where_the_board_names_none(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "boards" / "mine"
    (users / "firmware").mkdir(parents=True)
    text = (boards_dir() / "pico" / "board.toml").read_text()
    (users / "board.toml").write_text(text.replace('name = "pico"', 'name = "mine"'))
    (users / "firmware" / "mpconfigboard.cmake").write_text(
        "include(${HANDFAST_CUSTOM_DIR}/cmake/rp2.cmake)\n"
    )
    monkeypatch.setenv("HANDFAST_BOARDS", str(users.parent))
    said = configured("mine", ("frozen-mtls",), checkout, tmp_path / "out")
    assert said["frozen"].startswith("include('")
    assert said["frozen"].endswith("/ports/rp2/boards/manifest.py')")


def test_an_emulated_board_is_built_without_a_checkout(tmp_path: Path) -> None:
    options = ("session-resumption",)
    built = build_custom_firmware("qemu-mps2", options, micropython=None, out=tmp_path)
    assert built.file == tmp_path / "qemu-mps2-session-resumption.elf"
    assert built.file.read_bytes() == build_qemu_mps2(options=options).read_bytes()


def test_idf_is_given_the_boards_definition_and_the_options(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no ESP-IDF here: a program of its name says what it was called with, and fails."""
    tool = tmp_path / "bin" / "idf.py"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\nexit 7\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IDF_PATH", str(idf(tmp_path)))
    with pytest.raises(EnvironmentProblem, match="firmware for esp32-c3 failed") as failed:
        build_custom_firmware(
            "esp32-c3", ("tls13", "secure-element"), micropython=checkout, out=tmp_path
        )
    said = str(failed.value).splitlines()
    assert any(line.endswith("/ports/esp32") for line in said)
    assert "-DMICROPY_BOARD=ESP32_GENERIC_C3" in said
    assert "-DHANDFAST_OPTIONS=secure-element;tls13" in said
    assert said[-1] == "build"


@pytest.mark.parametrize("name", [name for name in DEFINED if name.startswith("esp32")])
def test_what_idf_built_becomes_an_image_that_flashing_takes(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    flash = load_board(name).flash
    assert flash is not None
    assert flash.loader is not None
    chip, offset = flash.loader.chip, flash.loader.image_offset
    assert chip is not None
    assert offset is not None
    idf_model(tmp_path, CHIP_IDS[chip], offset, monkeypatch)
    built = build_custom_firmware(
        name, ("tls13", "secure-element"), micropython=checkout, out=tmp_path / "out"
    )
    assert built.file == tmp_path / "out" / f"{name}-secure-element-tls13.bin"
    content = built.file.read_bytes()
    assert (built.size_bytes, built.sha256) == (len(content), sha256(content).hexdigest())
    image = read_esp_image(content, source=name)
    refuse_wrong_chip(image, chip, source=name)
    refuse_without_bootloader(image, offset, source=name)
    application = content[0x10000 - offset :]
    assert application.startswith(b"\xe9")
    assert b"-DHANDFAST_OPTIONS=secure-element;tls13" in application
    assert application.endswith(b" build")


# ---- What is missing ----


def test_without_a_checkout_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as refused:
        build_custom_firmware("pico-w", (), micropython=None, out=tmp_path)
    assert "git clone -b v1.26.1" in str(refused.value)
    assert "make submodules BOARD=RPI_PICO_W" in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_all_that_is_missing_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    missing = missing_for(load_board("pico-w"), tmp_path)
    assert {thing.partition(":")[0] for thing in missing} >= {"cmake", "make", "arm-none-eabi-g++"}
    assert any("is no checkout" in thing for thing in missing)


def test_what_mpy_cross_needs_and_the_c_library_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESP-IDF has neither make nor a compiler for the host; gcc-arm-none-eabi has no newlib."""
    monkeypatch.setenv("PATH", str(tmp_path))
    named = {thing.partition(":")[0] for thing in missing_for(load_board("esp32"), None)}
    assert {"make", "gcc"} <= named
    for tool, status in (("arm-none-eabi-g++", 0), ("arm-none-eabi-gcc", 1)):
        (tmp_path / tool).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / tool).chmod(0o755)
    package = "apt install libnewlib-arm-none-eabi"
    assert any(package in thing for thing in missing_for(load_board("pico-w"), None))
    (tmp_path / "arm-none-eabi-gcc").write_text("#!/bin/sh\n")
    assert not any(package in thing for thing in missing_for(load_board("pico-w"), None))


def test_other_versions_than_the_patches_are_for_are_refused(
    checkout: Path, tmp_path: Path
) -> None:
    header = tmp_path / "py" / "mpconfig.h"
    header.parent.mkdir()
    text = (checkout / "py" / "mpconfig.h").read_text()
    header.write_text(text.replace("MICROPY_VERSION_MINOR 26", "MICROPY_VERSION_MINOR 27"))
    missing = missing_for(load_board("pico-w"), tmp_path)
    assert any("is 1.27.1, which the patches were not made for" in thing for thing in missing)
    assert any("lib/cyw43-driver" in thing and "empty submodule" in thing for thing in missing)


def test_esp_idf_is_wanted_in_the_stated_version(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IDF_PATH", raising=False)
    assert any(
        "IDF_PATH is not set" in thing for thing in missing_for(load_board("esp32"), checkout)
    )
    monkeypatch.setenv("IDF_PATH", str(idf(tmp_path, "5.3.0")))
    missing = missing_for(load_board("esp32"), checkout)
    assert any(f"ESP-IDF {ESP_IDF_VERSION}" in thing and "is 5.3.0" in thing for thing in missing)


def test_what_stock_firmware_has_is_no_option(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fast-mbedtls: stock firmware of esp32 has it"):
        build_custom_firmware("esp32", ("fast-mbedtls",), micropython=checkout, out=tmp_path)


def test_board_without_a_definition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pico has no MicroPython board definition"):
        build_custom_firmware("pico", (), micropython=None, out=tmp_path)


# ---- Definitions ----


def test_the_boards_of_the_issue_have_a_definition_of_a_board_that_micropython_has(
    checkout: Path,
) -> None:
    assert sorted(path.parent.name for path in boards_dir().glob("*/firmware")) == DEFINED
    for name in DEFINED:
        board = load_board(name)
        assert board.firmware is not None
        stock = f"boards/{board.firmware.build}"
        folder = board.folder / "firmware"
        assert f'"{stock}/mpconfigboard.h"' in (folder / "mpconfigboard.h").read_text()
        assert stock in (folder / "mpconfigboard.cmake").read_text()
        assert (checkout / "ports" / board.port / stock / "mpconfigboard.cmake").is_file()


# ---- The command ----


def firmware(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handfast", "firmware", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_command_lists_its_options() -> None:
    said = firmware("options", "--json")
    assert said.returncode == 0, said.stderr
    assert list(json.loads(said.stdout)) == list(OPTIONS)


def test_the_command_builds_a_simulated_board_and_says_where_it_is(tmp_path: Path) -> None:
    done = firmware(
        "build", "sim-pico-w", "--with", "session-resumption", "--out", tmp_path, "--json"
    )
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    said = subprocess.run(
        [built["file"], "-c", "import tls; print(tls.SSLSession)"], capture_output=True, text=True
    )
    assert said.stdout.strip() == "<class 'SSLSession'>"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("pico-w", "--with", "tls14"), 2, "no build option tls14"),
        (("pico-w", "--with", "tls13,secure-element"), 3, "git clone"),
        (("nobody",), 2, "there is no board"),
    ],
)
def test_the_command_ends_by_the_projects_codes(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = firmware("build", *arguments, "--out", tmp_path)
    assert done.returncode == code
    assert told in done.stderr
