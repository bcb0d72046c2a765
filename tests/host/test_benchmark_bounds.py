"""A benchmark says which of its bounds was missed, and its exit code says that one was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from benchmarks import device, emulated
from benchmarks.bounds import at_most, missed
from handfast.boards.device_error import device_error
from handfast.boards.serial_port import NoAnswer
from handfast.errors import BoardProblem, EnvironmentProblem

BOUNDS = {"bytes": 16, "instructions": 4_000_000, "told": None}


def test_what_is_at_its_bound_has_not_missed_it() -> None:
    assert missed({"bytes": 16, "instructions": 1, "told": 9**9}, BOUNDS) == []


def test_each_missed_bound_is_named_with_both_numbers() -> None:
    assert missed({"instructions": 4_000_001, "bytes": 17, "told": 0, "other": 99}, BOUNDS) == [
        "bytes is 17, and 16 at most",
        "instructions is 4,000,001, and 4,000,000 at most",
    ]


def test_figure_that_was_not_measured_does_not_hold() -> None:
    with pytest.raises(KeyError, match="bytes"):
        missed({"instructions": 1}, BOUNDS)


def test_table_says_what_was_missed() -> None:
    cells = [at_most("bytes", value, BOUNDS) for value in (16, 17)]
    assert cells == ["16", "16: missed"]
    assert at_most("told", 1, BOUNDS) == at_most("other", 1, BOUNDS) == ""


# The commands' ends, with figures that nothing measured.

DEVICE = {name: most or 1 for name, most in device.BOUNDS.items()}
EMULATED = {
    **{name: most or 1 for name, most in emulated.BOUNDS.items()},
    "bare_handshake_get_instructions": 60_000_000,
    "late_handshake_get_instructions": 49_100_000,
}


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({}, 0, None),
        ({"mpy_total_bytes": 49_153}, 1, "missed: mpy_total_bytes is 49,153, and 49,152 at most"),
    ],
)
def test_bench_device_ends_with_what_it_found(
    more: dict[str, int],
    status: int,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures, chains = DEVICE | more, {"the default": 1}
    monkeypatch.setattr(device, "measure", lambda: (figures, chains))
    monkeypatch.setattr(device, "OUT", tmp_path / "out.json")
    assert device.main() == status
    out = told(capsys)
    assert f"bench-device: {said}" in out if said else "bench-device:" not in out
    assert json.loads((tmp_path / "out.json").read_text()) == {**figures, "chains": chains}


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({}, 0, None),
        (
            {"resumed_handshake_instructions": 2_500_001},
            1,
            "missed: resumed_handshake_instructions is 2,500,001, and 2,500,000 at most",
        ),
        (
            {"late_handshake_get_instructions": 48_900_000},
            1,
            "a gateway that answers late costs 48,900,000 instructions, and 50,000,000 otherwise",
        ),
    ],
)
def test_bench_emulated_ends_with_what_it_found(
    more: dict[str, int],
    status: int,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = EMULATED | more
    monkeypatch.setattr(emulated, "build_qemu_mps2", lambda **_: None)
    monkeypatch.setattr(emulated, "measure", lambda _: figures)
    monkeypatch.setattr(emulated, "OUT", tmp_path / "out.json")
    assert emulated.main() == status
    out = told(capsys)
    assert f"bench-emulated: {said}" in out if said else "bench-emulated:" not in out
    assert json.loads((tmp_path / "out.json").read_text()) == figures


@pytest.mark.parametrize("bench", [device, emulated])
def test_bench_that_could_not_measure_ends_with_the_reason_s_exit_code(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*_: object) -> None:
        raise EnvironmentProblem("no disk")

    monkeypatch.setattr(emulated, "build_qemu_mps2", lambda **_: None)
    monkeypatch.setattr(bench, "measure", measure)
    assert bench.main() == EnvironmentProblem.exit_code
    assert "no disk" in told(capsys)


# What counts as a heap that is too small.


class Board(emulated.Bench):
    """A bench without a gateway, whose board fails at once."""

    def __init__(self, folder: Path, failure: BoardProblem) -> None:
        self._folder, self._new, self._failure = folder, folder / "new.img", failure
        self._gateway = SimpleNamespace(
            admin=SimpleNamespace(create_token=lambda *_, **__: {"token": ""})
        )

    @contextmanager
    def _board(self, *_: object, **__: object) -> Iterator[None]:
        raise self._failure
        yield


@pytest.mark.parametrize(
    "last",
    [
        "MemoryError: memory allocation failed, allocating 17384 bytes",
        "OutOfMemory: not enough heap for a request: free some",
        "OSError: [Errno 12] ENOMEM",
    ],
)
def test_board_that_runs_out_of_heap_tells_that_it_does_not_fit(last: str, tmp_path: Path) -> None:
    failure = device_error("mps2", f"Traceback (most recent call last):\n{last}\n")
    assert Board(tmp_path, failure)._fits(64) is False


@pytest.mark.parametrize(
    "failure",
    [
        NoAnswer("the board did not finish a command within 300 s"),
        device_error("mps2", "OSError: [Errno 113] EHOSTUNREACH"),
        device_error("mps2", "RuntimeError: no progress: (('kind', 'Unreachable'),)"),
    ],
    ids=str,
)
def test_any_other_failure_is_not_taken_for_a_small_heap(
    failure: BoardProblem, tmp_path: Path
) -> None:
    with pytest.raises(BoardProblem) as raised:
        Board(tmp_path, failure)._fits(64)
    assert raised.value is failure


@pytest.mark.parametrize(
    ("bare", "said"),
    [(60_000_000, "10,000,000 instructions fewer"), (49_000_000, "1,000,000 instructions more")],
)
def test_bench_emulated_says_what_its_figures_are(
    bare: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = EMULATED | {"bare_handshake_get_instructions": bare}
    emulated._show(Console(), figures)
    assert f"takes {said} than one by tls alone" in told(capsys)
