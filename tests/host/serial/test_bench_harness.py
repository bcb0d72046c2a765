"""`make bench-harness` measures what really happens, and its ratios are of what it measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import BOUNDS, Round, library, measure, ratios, report
from handfast.errors import CheckFailed

FEW = {"one.py": b"x = 1\n" * 500, "two.bin": bytes(range(256)) * 8}


def test_ratios_are_medians_of_each_rounds_own() -> None:
    rounds = [Round(3.0, 1.0, 0.1), Round(8.0, 2.0, 0.1), Round(100.0, 10.0, 10.0)]
    assert ratios(rounds) == {"push_vs_mpremote": 4.0, "unchanged_push_vs_push": 10.0}


def test_what_is_measured_was_really_copied(tmp_path: Path) -> None:
    rounds = measure(FEW, 2, tmp_path)
    assert len(rounds) == 2
    for one in rounds:
        assert min(one.mpremote_s, one.push_s, one.unchanged_s) > 0


def test_a_slower_way_shows_in_the_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fair = ratios(measure(FEW, 1, tmp_path / "fair"))["push_vs_mpremote"]
    slow = harness._MPREMOTE.replace("failed = main()", "failed = main()\ntime.sleep(5)")
    monkeypatch.setattr(harness, "_MPREMOTE", slow)
    assert ratios(measure(FEW, 1, tmp_path / "slow"))["push_vs_mpremote"] > 2 * fair


def test_files_that_did_not_arrive_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "_by_mpremote", lambda url, source: len(f"{url}{source}"))
    with pytest.raises(CheckFailed, match="does not hold"):
        measure(FEW, 2, tmp_path)


def test_the_file_and_the_answer_say_whether_it_is_fast_enough(tmp_path: Path) -> None:
    out = tmp_path / "out" / "harness.json"
    assert report([Round(1.6, 1.0, 0.1), Round(1.7, 1.0, 0.1)], FEW, out)
    written = json.loads(out.read_text())
    assert written["push_vs_mpremote"] == 1.65
    assert written["unchanged_push_vs_push"] == 10
    assert len(written["rounds"]) == 2
    assert not report([Round(1.4, 1.0, 0.1)], FEW, out)
    assert not report([Round(1.6, 1.0, 0.21)], FEW, out)


def _best(files: Mapping[str, bytes], folder: Path) -> dict[str, float]:
    """Return ratios of the least seconds of each way: what other tests do meanwhile costs most."""
    rounds = measure(files, 4, folder)
    mpremote_s = min(one.mpremote_s for one in rounds)
    push_s = min(one.push_s for one in rounds)
    return ratios([Round(mpremote_s, push_s, min(one.unchanged_s for one in rounds))])


def test_the_library_gets_to_a_board_as_fast_as_promised(tmp_path: Path) -> None:
    best = _best(library(), tmp_path)
    assert {name: value >= BOUNDS[name] for name, value in best.items()} == dict.fromkeys(
        BOUNDS, True
    ), best
