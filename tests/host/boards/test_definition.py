"""board.toml: what is read, and what is said when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast.boards.definition import list_boards, load_board, read_board
from handfast.errors import UsageError
from handfast.resources import boards_dir

GOOD = (boards_dir() / "sim-pico-w" / "board.toml").read_text()


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


def test_an_unknown_board_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"no board 'pico'.*sim-pico-w"):
        load_board("pico")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "schema is 2"),
        ("schema = 1", "", "schema is missing"),
        ('mcu = "rp2040"', "mcu = 7", "mcu must be a text"),
        ('mcu = "rp2040"', 'mcv = "rp2040"', "mcv is not a known key"),
        ('kind = "simulated"', 'kind = "real"', "kind must be one of"),
        ('["clock", "power_cut"]', '"clock"', "capabilities must be a list"),
        ("heap_kb = 184", "heap_kb = 0", r"\[memory\] heap_kb must be a whole number"),
        ("heap_kb = 184", "heap_kb = true", r"\[memory\] heap_kb must be a whole number"),
        ("heap_kb = 184", "heap = 184", r"\[memory\] heap is not a known key"),
        ("filesystem_kb = 848", "filesystem_kb = 4000", r"\[flash\] filesystem_kb is larger"),
        ("filesystem_kb = 848", "filesystem_kb = 847", r"\[flash\] filesystem_kb is not a number"),
        ('["der"]', '["crt"]', r"\[tls\] certificate_formats must list"),
        ("epoch = 1970", "epoch = 1980", r"\[simulator\] epoch must be one of"),
        ("[memory]\nheap_kb = 184", "", r"\[memory\] is missing; a simulated board"),
        ('name = "sim-pico-w"', 'name = "other"', "name is 'other', but the folder"),
        ("schema = 1", "schema =", "is not TOML"),
    ],
)
def test_a_wrong_definition_names_the_file_and_the_key(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "sim-pico-w" / "board.toml"
    file.parent.mkdir()
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UsageError, match=f"{file}: .*{said}"):
        read_board(file)
