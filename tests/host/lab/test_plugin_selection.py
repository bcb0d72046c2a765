"""Which boards a run may use: by option, by name, by what they can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast.errors import UsageError
from handfast.lab.pytest_plugin.selection import candidates, fitting, read_bench, why_none

DESK = """
[board.left]
url = "/dev/ttyACM0"
board = "sim-esp32"
power_off = ["uhubctl", "-a", "0"]
power_on = ["uhubctl", "-a", "1"]

[board.right]
url = "socket://10.0.0.7:4000"
capabilities = ["real_radio"]
reset = ["relay", "pulse"]
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    file = tmp_path / "handfast-bench.toml"
    file.write_text(DESK)
    return file


def names(choice: str, bench: Path) -> list[str]:
    return [board.name for board in candidates(choice, bench)]


def test_the_option_says_which_boards_there_are(bench: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "none.toml"
    assert names("sim", bench)[0] == "sim-pico-w"
    assert "sim-esp32" in names("sim", bench)
    assert names("hardware", bench) == names("auto", bench) == ["left", "right"]
    assert names("auto", nothing) == names("sim", nothing)
    assert names("sim-esp32", bench) == ["sim-esp32"]
    assert names("right", bench) == ["right"]
    assert candidates("/dev/ttyUSB3", bench)[0].url == "/dev/ttyUSB3"
    assert candidates("rfc2217://host:4000", bench)[0].capabilities == frozenset()


@pytest.mark.parametrize(
    ("choice", "said"),
    [("hardware", "names no board"), ("emulated", "emulated"), ("middle", "known: sim-pico-w")],
)
def test_what_is_not_there_is_said(choice: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        candidates(choice, tmp_path / "none.toml")


def test_a_bench_gives_a_board_what_its_commands_can_do(bench: Path) -> None:
    left, right = read_bench(bench)
    assert left.capabilities == {"power_cycle"}  # the rest of its definition is the simulator's
    assert right.capabilities == {"real_radio", "reset"}
    assert fitting([left, right], ["reset"]) == [right]
    assert fitting([left, right], []) == [left, right]
    assert fitting([left, right], ["reset", "clock"]) == []
    assert why_none([right], ["b", "a"]) == (
        "no board has the capabilities a, b (right has real_radio, reset)"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[board", "cannot be read"),
        ("boards = 1", "nothing else"),
        ("[board.x]", "url is missing"),
        ("[board.x]\nurl = 'a'\npower = 'b'", "not known"),
        ("[board.x]\nurl = 'a'\nreset = 'relay'", "reset must be a list of texts"),
        ("[board.x]\nurl = 'a'\ncapabilities = ['power_cut']", "only a simulated board has"),
        ("[board.x]\nurl = 'a'\nboard = 'esp9000'", "there is no board"),
    ],
)
def test_a_bench_file_that_is_wrong_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "bench.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_bench(file)
