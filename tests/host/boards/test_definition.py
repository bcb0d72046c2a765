"""board.toml: what is read, and what is said when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast.boards.definition import list_boards, load_board, read_board
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
    }


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
        ("sim-pico-w", 'name = "sim-pico-w"', 'name = "other"', "3: name is 'other', but the fold"),
        ("sim-pico-w", "schema = 1", "schema =", "2: is not TOML"),
        ("sim-pico-w", "unique_id_bytes = 8", "unique_id_bytes = [8,", r"3\d: is not TOML"),
        ("pico-w", "2e8a:0005", "2E8A:0005", r"1\d: \[usb\] ids must be a list of texts like"),
        ("pico-w", "2e8a:0005", "2e8a-0005", r"1\d: \[usb\] ids must be a list of texts like"),
        ("pico-w", 'loader = "uf2"', 'loader = "usb"', r"\[flash\] loader must be one of esptool"),
        ("pico-w", 'loader = "uf2"', 'loader = "esptool"', r"\[flash\] chip is missing"),
        ("pico-w", "uf2_family_id = 0x", "# ", r"\[flash\] uf2_family_id is missing"),
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
