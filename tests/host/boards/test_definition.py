"""board.toml: what is read, and what is said when it is wrong."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from handfast.boards.archives import unpack
from handfast.boards.definition import (
    FOLDERS_VARIABLE,
    list_boards,
    load_board,
    load_boards,
    read_board,
)
from handfast.boards.sources import fetch, find_source
from handfast.boards.toml_table import line_of
from handfast.errors import UsageError
from handfast.resources import boards_dir


@pytest.mark.parametrize("name", list_boards())
def test_every_board_of_the_tree_loads(name: str) -> None:
    assert load_board(name).name == name


def test_the_profiles_differ_as_the_boards_do() -> None:
    pico, esp32 = load_board("sim-pico-w"), load_board("sim-esp32")
    assert pico.tls is not None
    assert esp32.tls is not None
    assert pico.simulator is not None
    assert esp32.simulator is not None
    assert (pico.tls.certificate_formats, pico.tls.heap) == (("der",), "gc")
    assert (esp32.tls.certificate_formats, esp32.tls.heap) == (("der", "pem"), "c")
    assert (pico.simulator.epoch, esp32.simulator.epoch) == (1970, 2000)
    assert "power_cut" in pico.capabilities


def test_boards_are_listed_by_kind() -> None:
    assert {"sim-pico-w", "sim-esp32"} <= set(list_boards(kind="simulated"))
    assert set(list_boards(kind="hardware")) >= {
        *("esp32", "esp32-s3", "esp32-c3", "esp32-c6", "arduino-nano-esp32"),
        *("pico", "pico-w", "pico2-w"),
        "arduino-mkr",
    }


def test_a_board_without_micropython_has_a_sketch_that_calls_its_models_so() -> None:
    board = load_board("arduino-mkr")
    assert board.csr is not None
    assert (board.port, board.flash, board.firmware) == ("none", None, None)
    sketch = board.folder / board.csr.sketch / f"{board.csr.sketch}.ino"
    named = re.findall(r'^  return "(mkr\w+)";', sketch.read_text(), re.MULTILINE)
    assert list(board.csr.models) == named
    assert board.csr.enrol_only == ("mkrwan1300", "mkrwan1310")
    assert board.usb is not None
    # A bootloader's product id is the sketch's less 0x8000 (Arduino's boards.txt).
    assert board.usb.bootloader_ids == tuple((v, p - 0x8000) for v, p in board.usb.ids)


def test_an_unknown_board_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"no board 'pico-x'.*pico-w"):
        load_board("pico-x")


@pytest.mark.parametrize(
    ("board", "old", "new", "said"),
    [
        ("sim-pico-w", "schema = 1", "schema = 2", "2: schema is 2"),
        ("sim-pico-w", "schema = 1", "", "1: schema is missing"),
        ("sim-pico-w", 'mcu = "rp2040"', "mcu = 7", "5: mcu must be a text"),
        ("sim-pico-w", 'mcu = "rp2040"', 'mcu = "rp2040"\nmcv = 1', "6: mcv is not a known key"),
        ("sim-pico-w", 'kind = "simulated"', 'kind = "real"', "7: kind must be one of"),
        ("sim-pico-w", '["clock", "power_cut"]', '"clock"', "8: capabilities must be a list"),
        ("sim-pico-w", '"clock"', '"power_cut"', "8: capabilities must be a list without rep"),
        ("sim-pico-w", "heap_kb = 184", "heap_kb = 0", r"17: \[memory\] heap_kb must be a whole"),
        (
            "sim-pico-w",
            "heap_kb = 184",
            "heap_kb = true",
            r"17: \[memory\] heap_kb must be a whole",
        ),
        ("sim-pico-w", "heap_kb = 184", "heap = 184", r"16: \[memory\] heap_kb is missing"),
        ("sim-pico-w", "= 184", "= 184\nheap = 1", r"18: \[memory\] heap is not a known key"),
        (
            "sim-pico-w",
            "= 184",
            '= "not recorded"',
            r"17: \[memory\] heap_kb is not recorded; a sim",
        ),
        ("sim-pico-w", "= 848", "= 4000", r"12: \[flash\] filesystem_kb is larger"),
        ("sim-pico-w", "= 848", "= 847", r"12: \[flash\] filesystem_kb is not a number"),
        ("sim-pico-w", '["der"]', '["crt"]', r"24: \[tls\] certificate_formats must be a list out"),
        ("sim-pico-w", '["der"]', "[]", r"24: \[tls\] certificate_formats must name at least one"),
        ("sim-pico-w", "= false", "= 0", r"27: \[tls\] sign_callback must be true or false"),
        ("sim-pico-w", "epoch = 1970", "epoch = 1980", r"31: \[simulator\] epoch must be one of"),
        (
            "sim-pico-w",
            "[memory]\nheap_kb = 184",
            "",
            r"1: \[memory\] is missing; a simulated board",
        ),
        ("sim-pico-w", '"simulated"\n', '"hardware"\n', r"1: \[usb\] is missing; a hardware board"),
        (
            "sim-pico-w",
            '"simulated"\n',
            '"emulated"\n',
            r"1: \[emulator\] is missing; an? emulated",
        ),
        ("qemu-mps2", 'host = "10.0.2.2"', "", r"\[emulator\] host is missing"),
        ("qemu-mps2", "epoch = 1970", "epoch = 1", r"\[emulator\] epoch must be one of"),
        ("qemu-mps2", "mdc = 0", "mdc = -1", r"\[ethernet\] mdc must be a whole number"),
        ("qemu-mps2", "phy_addr = 1", "phy = 1", r"\[ethernet\] phy_addr is missing"),
        ("sim-pico-w", 'name = "sim-pico-w"', 'name = "other"', "3: name is 'other', but the fold"),
        ("sim-pico-w", "schema = 1", "schema =", "2: is not TOML"),
        ("sim-pico-w", "unique_id_bytes = 8", "unique_id_bytes = [8,", r"3\d: is not TOML"),
        ("pico-w", "2e8a:0005", "2E8A:0005", r"1\d: \[usb\] ids must be a list of texts like"),
        ("pico-w", "2e8a:0005", "2e8a-0005", r"1\d: \[usb\] ids must be a list of texts like"),
        ("pico-w", "[0xe48bff56]", "0xe48bff56", r"\[flash\] uf2_family_ids must be a list of"),
        ("pico-w", "[0xe48bff56]", "[]", r"\[flash\] uf2_family_ids must be a list of"),
        ("pico-w", "[0xe48bff56]", "[0]", r"\[flash\] uf2_family_ids must be a list of"),
        ("pico-w", "[0xe48bff56]", "[true]", r"\[flash\] uf2_family_ids must be a list of"),
        ("pico-w", 'loader = "uf2"', 'loader = "usb"', r"\[flash\] loader must be one of esptool"),
        ("pico-w", 'loader = "uf2"', 'loader = "esptool"', r"\[flash\] chip is missing"),
        ("pico-w", "uf2_family_ids", "# ", r"\[flash\] uf2_family_ids is missing"),
        ("pico-w", '"repl", "button"', '"jump"', r"\[flash\] bootloader_entry must be a list out"),
        ("pico-w", '"repl", "button"', "", r"\[flash\] bootloader_entry must name at least one"),
        ("pico-w", "v1.26.1.uf2", "v1.25.0.uf2", r"\[firmware\] url is not MicroPython 1.26.1's"),
        (
            "pico-w",
            '"not recorded"\n\n[tls]',
            '"0f"\n\n[tls]',
            r"\[firmware\] sha256 must be a text",
        ),
        (
            "pico-w",
            "https://micropython.org/d",
            "http://micropython.org/d",
            r"\[firmware\] page must be a text",
        ),
        ("pico-w", "2e8a:0005", "2e8a:00055", r"1\d: \[usb\] ids must be a list of texts like"),
        ("pico-w", '= "1.26.1"', '= "1.26.1-preview"', r"\[firmware\] micropython must be a text"),
        ("pico-w", "[usb]\nids", "[usb]\nids = []\nids_", r"1\d: \[usb\] ids must name at least"),
        ("pico-w", "[usb]", "[usb.x]", r"1\d: \[usb\] ids is missing"),
        ("pico-w", "real_radio", "real radio", "capabilities must be a list of texts like"),
        (
            "arduino-mkr",
            '["mkrwan1300", "mkrwan1310"]',
            '["mkrwan9"]',
            r"\[csr\] enrol_only must be a list out of mkr1000",
        ),
        ("arduino-mkr", 'port = "none"', 'port = "samd"', 'port is "none" for boards with'),
        ("pico-w", 'port = "rp2"', 'port = "none"', 'port is "none" for boards with'),
        ("arduino-mkr", "[csr]", "[crs]", r"crs is not a known key"),
        ("arduino-mkr", "sketch = ", "sketchs = ", r"\[csr\] sketch is missing"),
        ("arduino-mkr", "[usb]\nids", "[usb]\nid", r"\[usb\] ids is missing"),
        ("esp32", "image_offset = 0x1000", "", r"\[flash\] image_offset is missing"),
        (
            "esp32",
            "image_offset = 0x1000",
            "image_offset = -1",
            r"\[flash\] image_offset must be a whole",
        ),
    ],
)
def test_a_wrong_definition_names_the_file_the_line_and_the_key(
    board: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    good = (boards_dir() / board / "board.toml").read_text()
    file = tmp_path / board / "board.toml"
    file.parent.mkdir()
    assert old in good
    file.write_text(good.replace(old, new, 1))
    with pytest.raises(UsageError, match=rf"^{file}:(\d+: )?{said}"):
        read_board(file)


def test_a_hardware_board_that_nothing_can_flash_is_refused(tmp_path: Path) -> None:
    good = (boards_dir() / "pico-w" / "board.toml").read_text()
    file = tmp_path / "pico-w" / "board.toml"
    file.parent.mkdir()
    file.write_text(re.sub(r"(?m)^(loader|uf2_|bootloader_entry).*", "", good))
    line = good.splitlines().index("[flash]") + 1
    with pytest.raises(
        UsageError, match=rf"{file}:{line}: \[flash\] loader is missing; a hardware"
    ):
        read_board(file)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 2),
        (("b",), 3),
        (("c",), 8),
        (("table",), 12),
        (("table", "d"), 14),
        (("table", "e", "f"), 15),
        (("table", "list"), 16),
        (("table", "below"), 18),
        (("table", "below", "g"), 19),
        (("nothing",), None),
        (("table", "a"), None),
        (("a", "b"), None),
    ],
)
def test_a_key_is_found_on_the_line_where_its_statement_starts(
    path: tuple[str, ...], line: int | None
) -> None:
    assert line_of(_TOML, path) == line


_TOML = """\
# a = 0
a = 1
b = [
    "c = 1",
    # c = 2
    "d",
]
c = '''
[table]
d = 1
'''
[table]
# d = 3
"d" = 4
e = { f = 1, g = 2 }
list = [1,
  2]
[table.below]
g = 1
"""


def test_a_definition_of_ones_own_is_one_file_and_may_take_the_place_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (boards_dir() / "pico-w" / "board.toml").read_text()
    for folder, name, said in (("first", "pico-w", "ours"), ("second", "my-pico", "mine")):
        file = tmp_path / folder / name / "board.toml"
        file.parent.mkdir(parents=True)
        own = text.replace('name = "pico-w"', f'name = "{name}"')
        file.write_text(own.replace("Raspberry Pi Pico W (", f"{said} ("))
    monkeypatch.setenv(FOLDERS_VARIABLE, f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}")
    assert load_board("my-pico").description.startswith("mine (")
    assert load_board("pico-w").description.startswith("ours (")
    assert load_board("pico").file.is_relative_to(boards_dir())
    assert {"my-pico", "pico-w", "sim-esp32"} <= set(list_boards())


# Facts against the sources that the definitions cite.


COMMON = "extmod/mbedtls/mbedtls_config_common.h"


@pytest.fixture(scope="session")
def micropython(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("micropython")
    parts = ("ports/esp32/", "ports/rp2/", "tools/autobuild/", COMMON)
    unpack(fetch(find_source("micropython", "1.26.1")), tree, parts=parts)
    return tree


WITH_MICROPYTHON = [b.name for b in load_boards() if b.kind == "hardware" and b.firmware]


@pytest.mark.parametrize("name", WITH_MICROPYTHON)
def test_the_build_is_a_board_of_micropythons_with_that_chip(name: str, micropython: Path) -> None:
    board = load_board(name)
    assert board.firmware is not None
    folder = micropython / "ports" / board.port / "boards" / board.firmware.build
    described = json.loads((folder / "board.json").read_text())
    assert described["mcu"] == board.mcu
    assert f"/{board.firmware.build}-" in (board.firmware.url or "")
    assert ("WiFi" in described["features"]) == ("real_radio" in board.capabilities)
    offset = described.get("deploy_options", {}).get("flash_offset")
    assert board.flash is not None
    assert board.flash.loader is not None
    if board.flash.loader.kind == "esptool":
        assert board.flash.loader.image_offset == int(offset, 0)
        assert board.flash.loader.chip == board.mcu


@pytest.mark.parametrize("name", WITH_MICROPYTHON)
def test_the_image_has_the_name_that_micropythons_own_builds_give_it(
    name: str, micropython: Path
) -> None:
    board = load_board(name)
    assert board.firmware is not None
    script = (micropython / "tools/autobuild/build-boards.sh").read_text()
    rule = rf"build_{board.port}_boards \{{\n +build_boards \S+ \$1 \$2 (.+)\n"
    (extensions,) = re.findall(rule, script)
    version = re.escape(board.firmware.micropython)
    assert re.fullmatch(
        "https://micropython.org/resources/firmware/"
        rf"{board.firmware.build}-20\d{{6}}-v{version}\.({'|'.join(extensions.split())})",
        board.firmware.url or "",
    )


@pytest.mark.parametrize("name", WITH_MICROPYTHON)
def test_the_filesystem_has_the_size_that_micropython_gives_it(
    name: str, micropython: Path
) -> None:
    board = load_board(name)
    assert board.flash is not None
    assert board.firmware is not None
    port = micropython / "ports" / board.port
    folder = port / "boards" / board.firmware.build
    if board.port == "rp2":
        header = (folder / "mpconfigboard.h").read_text()
        rule = r"FLASH_STORAGE_BYTES +\((PICO_FLASH_SIZE_BYTES - )?(\d+) \* 1024\)"
        ((rest_of_flash, size),) = re.findall(rule, header)
        expected = 1024 * (board.flash.size_kb - int(size) if rest_of_flash else int(size))
    elif (own := list(folder.glob("partitions-*.csv"))) != []:
        (size,) = re.findall(r"^ffat,.*?,.*?,.*?,\s*(\w+)", own[0].read_text(), re.MULTILINE)
        expected = int(size, 0)
    else:
        table = (port / "partitions-4MiBplus.csv").read_text()
        start, size = re.findall(r"^factory,.*?,.*?,\s*(\w+),\s*(\w+)", table, re.MULTILINE)[0]
        expected = board.flash.size_kb * 1024 - int(start, 0) - int(size, 0)
    assert board.flash.filesystem_kb * 1024 == expected


@pytest.mark.parametrize("name", WITH_MICROPYTHON)
def test_tls_is_what_micropython_configures(name: str, micropython: Path) -> None:
    board = load_board(name)
    assert board.firmware is not None
    port = micropython / "ports" / board.port
    folder = port / "boards" / board.firmware.build
    if board.tls is None:  # without a network there is no module
        assert "WiFi" not in json.loads((folder / "board.json").read_text())["features"]
        return
    if board.port == "rp2":
        headers = (port / "mbedtls/mbedtls_config_port.h", micropython / COMMON)
        text = "".join(header.read_text() for header in headers)
        mbedtls = set(re.findall(r"^#define MBEDTLS_(\w+)", text, re.MULTILINE))
        heap = {"m_tracked_calloc": "gc"}[re.findall(r"STD_CALLOC (\w+)", text)[0]]
        assert re.search(r"^#define MICROPY_MBEDTLS_CONFIG_BARE_METAL \(1\)", text, re.MULTILINE)
    else:
        switches = {"PEM_PARSE_C": "y", "SSL_PROTO_TLS1_2": "y"}  # ESP-IDF's own defaults
        cmake = (folder / "mpconfigboard.cmake").read_text()
        for file in re.findall(r"[\w.}/{$]*sdkconfig\.\w+", cmake):
            text = (port / file.replace("${MICROPY_BOARD_DIR}", str(folder))).read_text()
            switches |= re.findall(r"^CONFIG_MBEDTLS_(\w+)=(.)", text, re.MULTILINE)
        mbedtls = {switch for switch, on in switches.items() if on == "y"}
        heap = "c" if "DEFAULT_MEM_ALLOC" in mbedtls else "?"
    sources = [file for file in port.rglob("*") if file.suffix in {".h", ".c", ".cmake", ".txt"}]
    assert len(sources) > 100
    signs = any("MICROPY_PY_SSL_ECDSA_SIGN_ALT" in file.read_text() for file in sources)
    versions = {"SSL_PROTO_TLS1_2": "1.2", "SSL_PROTO_TLS1_3": "1.3"}
    assert asdict(board.tls) == {
        "certificate_formats": ("der", "pem") if "PEM_PARSE_C" in mbedtls else ("der",),
        "heap": heap,
        "versions": tuple(said for switch, said in versions.items() if switch in mbedtls),
        "sign_callback": signs,
    }
