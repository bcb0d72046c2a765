"""Which boards a run may use: by option, by name, by what they can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast.boards import virtual
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
    assert names("qemu-mps2", nothing) == ["qemu-mps2"]
    assert candidates("/dev/ttyUSB3", bench)[0].url == "/dev/ttyUSB3"
    assert candidates("rfc2217://host:4000", bench)[0].capabilities == frozenset()


@pytest.mark.parametrize("missing", ["", "no slirp"])
def test_emulated_boards_are_those_that_can_run_here_the_fastest_first(
    missing: str, bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual, "why_no_slirp", lambda: missing)
    assert names("emulated", bench) == ["qemu-mps2", *([] if missing else ["rp2040"])]
    (rp2040,) = candidates("rp2040", bench)  # a test that runs there says what is missing
    assert rp2040.capabilities == {"reset", "power_cycle"}


@pytest.mark.parametrize(
    ("choice", "said"),
    [("hardware", "names no board"), ("middle", "known: sim-pico-w")],
)
def test_what_is_not_there_is_said(choice: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        candidates(choice, tmp_path / "none.toml")


def test_a_bench_gives_a_board_what_its_commands_can_do(bench: Path) -> None:
    left, right = read_bench(bench)
    assert (left.board, right.board) == ("sim-esp32", "")
    assert left.capabilities == {"power_cycle"}  # the rest of its definition is the simulator's
    assert right.capabilities == {"real_radio", "reset"}
    assert fitting([left, right], ["reset"]) == [right]
    assert fitting([left, right], []) == [left, right]
    assert fitting([left, right], ["reset", "clock"]) == []
    assert why_none([right], ["b", "a"]) == (
        "no board has the capabilities a, b (right has real_radio, reset)"
    )


def test_a_board_of_the_scan_is_known_by_its_name_and_not_by_a_port(
    bench: Path, tmp_path: Path
) -> None:
    (candidate,) = candidates("sim-pico-w@0aff", bench)
    assert (candidate.url, candidate.board) == ("sim-pico-w@0AFF", "sim-pico-w")
    assert not candidate.capabilities & {"power_cut", "clock"}  # it hangs on a wire
    file = tmp_path / "names.toml"
    file.write_text('[board.x]\nurl = "pico-w@0aff"\n[board.y]\nurl = "rfc2217://u@host:1"\n')
    named, other = read_bench(file)
    assert (named.name, named.url, named.board) == ("x", "pico-w@0AFF", "pico-w")
    assert named.capabilities == {"real_radio"}
    assert (other.url, other.board) == ("rfc2217://u@host:1", "")
    with pytest.raises(UsageError, match="there is no board 'pico-x'"):
        candidates("pico-x@FF", bench)


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
        ("[board.x]\nurl = 'a'\nboard = 7", "board must be a text"),
        ("[board.x]\nurl = 'pico-w@1'\nboard = 'pico'", "board is pico, and url names a pico-w"),
        ("[board.x]\nurl = 'esp9000@1'", "there is no board"),
        ("[board.x]\nurl = 'a'\ndrive = ['/mnt']", "drive must be a text"),
    ],
)
def test_a_bench_file_that_is_wrong_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "bench.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=said):
        read_bench(file)
