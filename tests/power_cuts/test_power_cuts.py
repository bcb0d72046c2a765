"""A part of `make power-cuts`: each first cut of a re-enrolment, and a sample of all others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import cast

import pytest

from handfast.boards import device_library, provision
from handfast.boards.definition import load_board
from handfast.boards.serial_link import SerialLink
from handfast.lab.demo import comeback
from tests.power_cuts import engine, sequences
from tests.power_cuts.__main__ import main
from tests.power_cuts.cases import Case, Cut, Outcome, Tally, every_cut, sample, second_cases
from tests.power_cuts.engine import (
    every_first_cut,
    every_second_cut,
    measure,
    one_second_cut,
    try_case,
)
from tests.power_cuts.journal import Journal
from tests.power_cuts.rig import Bench, open_bench
from tests.power_cuts.sequences import SEQUENCES
from tests.power_cuts.stepped import SteppedBoard
from tests.power_cuts.wear import measure_wear

# Cuts of each sequence: first ones, and second ones in the recovery.
SAMPLED = {
    "provision": (25, 10),
    "enrol-token": (30, 10),
    "enrol-idevid": (20, 10),
    "enrol-fingerprint": (10, 5),
    "decommission": (30, 10),
    "rollover-take": (5, 5),
    "rollover-drop": (5, 5),
    "rollover-root": (5, 5),
    "rollover-root-drop": (5, 5),
}
# Each of them is a test, for the processes that share the work.
PARTS = 5
SEED = "make test"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench() as bench:
        yield bench


@pytest.fixture(scope="module")
def operations_of(bench: Bench) -> Callable[[str], int]:
    """Tells how many flash operations a sequence has, which is found out once."""
    return cache(lambda name: measure(bench, name).operations)


def problems(outcomes: list[Outcome]) -> list[str]:
    return [f"{outcome.case}: {outcome.problem}" for outcome in outcomes if outcome.problem]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_re_enrolment_cut_at_every_operation_is_finished_at_the_next_boot(
    bench: Bench, operations_of: Callable[[str], int], part: int
) -> None:
    cuts = every_cut(operations_of("re-enrol"))
    assert len(cuts) >= 2 * 12
    size = -(-len(cuts) // PARTS)
    firsts = cuts[part * size : (part + 1) * size]
    outcomes = list(chain(*every_first_cut(bench, "re-enrol", firsts)))
    assert problems(outcomes) == []
    assert sorted(str(one.case) for one in outcomes if one.reached) == sorted(
        str(Case("re-enrol", cut)) for cut in firsts
    )


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", SAMPLED)
def test_a_board_cut_at_any_operation_comes_back(
    bench: Bench, operations_of: Callable[[str], int], name: str, part: int
) -> None:
    firsts, seconds = SAMPLED[name]
    operations = operations_of(name)
    outcomes = [
        try_case(bench, Case(name, cut)) for cut in sample(operations, firsts, SEED)[part::PARTS]
    ]
    for number, cut in enumerate(sample(operations, seconds, f"{SEED} twice")[part::PARTS]):
        seed = f"{SEED} {part} {number}"
        outcomes += one_second_cut(bench, Case(name, cut), operations, seed)
    assert problems(outcomes) == []
    reached = [outcome for outcome in outcomes if outcome.reached]
    assert len(reached) >= (firsts + seconds) // PARTS


def test_the_recovery_from_a_cut_may_be_cut_at_every_operation(bench: Bench) -> None:
    first = Cut(measure(bench, "re-enrol").operations - 3)
    outcomes = list(chain(*every_second_cut(bench, "re-enrol", [first])))
    assert problems(outcomes) == []
    assert [one.case for one in outcomes if one.case.second is None] == [Case("re-enrol", first)]
    seconds = {one.case.second for one in outcomes if one.case.second is not None}
    assert len(seconds) > 2 * 3
    assert seconds == set(every_cut(len(seconds) // 2))
    # The cut before anything is done leaves what there was, and others do too.
    same = [one.case.second for one in outcomes if one.same_image]
    assert Cut(0, torn=False) in same
    assert len(same) < len(outcomes) / 2


# Files' times would differ from run to run.
WRITES = b"""
import _sim, os, vfs
os.umount("/")
vfs.mount(vfs.VfsLfs2(_sim.Flash(), progsize=256, mtime=False), "/")
for name in "xyx":
    with open(name + ".new", "w") as file:
        file.write("some words " * 200)
    os.rename(name + ".new", name)
print("written")
"""


def written(board: SteppedBoard, blank: bytes, **cut: int | bool) -> bytes:
    """Return what is on flash after a boot that writes files, or a cut in it."""
    board.flash_image.write_bytes(blank)
    with SerialLink.open(board.serial_url) as link:
        board.power_on(**cut)  # type: ignore[arg-type]
        told = ""
        while board.is_running and "written" not in told:
            told += link.read_console(0.02)
        board.power_off()
    return board.flash_image.read_bytes()


def test_what_is_seen_at_a_moment_is_what_a_cut_there_leaves(tmp_path: Path) -> None:
    with SteppedBoard("sim-pico-w", directory=tmp_path) as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.push({"/main.py": WRITES})
        board.power_off()
        blank = board.flash_image.read_bytes()
        seen: list[bytes] = []
        board.on_moment = lambda: seen.append(board.flash_image.read_bytes())
        written(board, blank)
        board.on_moment = None
        assert len(seen) >= 2 * 20
        assert len(set(seen)) >= 20
        for number, image in enumerate(seen):
            left = written(board, blank, cut_after=number // 2, torn=number % 2 == 1)
            assert board.power_was_cut, number
            assert left == image, number


def test_a_device_is_put_back_with_all_that_the_gateway_holds_of_it(bench: Bench) -> None:
    sequence = SEQUENCES["re-enrol"]
    with bench.place(sequence) as place:
        before = place.rig.scene.admin.device(place.board.name)
        sequence.play(place.rig, place.board, None)
        assert place.rig.state(place.board).key != place.start.key
        place.put_back(place.start)
        assert place.rig.state(place.board).key == place.start.key
        after = place.rig.scene.admin.device(place.board.name)
        assert before | {"last_seen": 0} == after | {"last_seen": 0}
        # Neither is its new leaf known any more, nor the old one refused.
        ran = sequence.play(place.rig, place.board, None)
        assert ran.boot is not None
        assert ran.boot.reported


def test_a_rotation_wears_the_flash_by_few_operations(bench: Bench) -> None:
    wear = measure_wear(bench.rig(), 24)
    assert len(wear.operations) == 24
    # The first renewal takes note of the CA certificates too.
    assert max(wear.operations[:1]) <= 40
    assert max(wear.erasures[:1]) <= 8
    assert 8 <= max(wear.operations[1:]) <= 16
    assert 1 <= max(wear.erasures[1:]) <= 4
    assert sum(wear.erasures) <= 3 * 24


def test_a_decommissioning_looked_at_in_between_is_finished_from_each_state(bench: Bench) -> None:
    operations = measure(bench, "decommission").operations
    firsts = every_cut(operations)[operations : operations + 16]
    outcomes = list(chain(*every_first_cut(bench, "decommission", firsts)))
    assert problems(outcomes) == []
    assert {one.case.first for one in outcomes if one.reached} == set(firsts)


# What this would find


def is_found_out(bench: Bench, cases: list[Case]) -> bool:
    return any(try_case(bench, case).problem for case in cases)


@pytest.fixture
def broken_bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Boards whose firmware has one text replaced."""
    name, good, bad = request.param
    firmware = tmp_path / "firmware"
    for path in filter(Path.is_file, provision.firmware_dir().rglob("*")):
        copy = firmware / path.relative_to(provision.firmware_dir())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    text = (firmware / name).read_text()
    assert text.count(good) == 1, f"{name} has changed: choose another place to break"
    (firmware / name).write_text(text.replace(good, bad))
    for module in (provision, device_library):
        monkeypatch.setattr(module, "firmware_dir", lambda: firmware)
    monkeypatch.setattr(comeback, "BOOT_WITHIN_S", 6.0)
    with open_bench() as bench:
        yield bench


FORGETS_THE_OLD_LEAF_FIRST = (
    "mtls/issuance.py",
    "    session = _est_session(agent, agent._identity(), agent._watch_est)\n",
    "    session = _est_session(agent, agent._identity(), agent._watch_est)\n"
    "    import os\n"
    '    os.remove("/mtls/slot-" + agent.active)\n',
)
NO_TOMBSTONE = ("mtls/erase.py", "    _mark(tombstone)\n", "")
ERASES_NOTHING = (
    "mtls/erase.py",
    "    _remove_tree(store.root)\n    _overwrite_free(tombstone)\n    _require_erased()\n",
    "    _remove_tree(store.root)\n    os.remove(tombstone)\n",
)
NEWS_DONE_WITH_FIRST = (
    "mtls/rollover.py",
    '    for kind, add in (("root", to_root), ("tls", to_tls)):\n',
    '    store._write("anchor/cacerts", digest)\n'
    '    for kind, add in (("root", to_root), ("tls", to_tls)):\n',
)
TLS_ANCHORS_FIRST = (
    "mtls/anchors.py",
    "    for root in roots:\n",
    '    for anchor in anchors:\n        keep(store, "tls", anchor)\n    for root in roots:\n',
)
KEY_NOT_KEPT = (
    "mtls/custody.py",
    "    store.write_identity(name, key.to_der())\n    return key\n",
    "    return key\n",
)


@pytest.mark.parametrize("broken_bench", [FORGETS_THE_OLD_LEAF_FIRST], indirect=True)
def test_a_renewal_that_forgets_the_old_leaf_first_is_found_out(broken_bench: Bench) -> None:
    operations = measure(broken_bench, "re-enrol").operations
    assert is_found_out(broken_bench, [Case("re-enrol", Cut(n)) for n in range(8, operations)])


@pytest.mark.parametrize("broken_bench", [FORGETS_THE_OLD_LEAF_FIRST], indirect=True)
def test_what_is_seen_in_one_run_finds_that_renewal_out_too(broken_bench: Bench) -> None:
    # Nothing has gone yet at the one, and the new leaf is not there yet at the other.
    before, after = Cut(1), Cut(8)
    outcomes = chain(*every_first_cut(broken_bench, "re-enrol", [before, after]))
    assert {one.case.first: bool(one.problem) for one in outcomes} == {before: False, after: True}


@pytest.mark.parametrize("broken_bench", [NEWS_DONE_WITH_FIRST], indirect=True)
def test_an_old_root_that_would_stay_for_ever_is_found_out(broken_bench: Bench) -> None:
    operations = measure(broken_bench, "rollover-root-drop").operations
    cases = [Case("rollover-root-drop", Cut(n)) for n in range(operations - 3, operations - 7, -1)]
    assert is_found_out(broken_bench, cases)


@pytest.mark.parametrize("broken_bench", [TLS_ANCHORS_FIRST], indirect=True)
def test_a_tls_anchor_that_is_kept_before_its_root_is_found_out(broken_bench: Bench) -> None:
    assert is_found_out(broken_bench, [Case("enrol-fingerprint", Cut(n)) for n in range(11, 17)])


@pytest.mark.parametrize("broken_bench", [NO_TOMBSTONE, ERASES_NOTHING], indirect=True)
def test_a_decommissioning_that_is_not_finished_is_found_out(broken_bench: Bench) -> None:
    assert is_found_out(broken_bench, [Case("decommission", Cut(n)) for n in (8, 16, 24)])


@pytest.mark.parametrize("broken_bench", [KEY_NOT_KEPT], indirect=True)
def test_a_key_that_is_not_on_flash_before_its_csr_is_found_out(broken_bench: Bench) -> None:
    operations = measure(broken_bench, "enrol-token").operations
    assert is_found_out(broken_bench, [Case("enrol-token", Cut(n)) for n in range(6, operations)])


def test_an_application_that_is_copied_first_is_found_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = SerialLink.install

    def application_first(self: SerialLink, files: dict[str, bytes], **how: object) -> object:
        self.push({"/main.py": files["/main.py"]})
        return install(self, files, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(SerialLink, "install", application_first)
    monkeypatch.setattr(sequences, "_APPLICATION_WITHIN_S", 3.0)
    outcome = try_case(bench, Case("provision", Cut(60)))
    assert "no application runs" in outcome.problem


# What is counted


def test_every_cut_comes_in_both_kinds_and_a_sample_is_of_them() -> None:
    assert every_cut(2) == [Cut(0), Cut(0, torn=False), Cut(1), Cut(1, torn=False)]
    assert set(sample(3, 100, "s")) == set(every_cut(3))
    assert sample(300, 9, "s") == sample(300, 9, "s") != sample(300, 9, "t")
    assert len(set(sample(300, 90, "s"))) == 90


def test_second_cuts_come_ever_earlier_down_to_the_first_operation_then_from_another_first() -> (
    None
):
    drawn = list(second_cases(Case("x", Cut(7)), 400, "s"))
    assert drawn == list(second_cases(Case("x", Cut(7)), 400, "s"))
    by_first = [(first, list(cases)) for first, cases in groupby(drawn, lambda one: one.first)]
    assert by_first[0][0] == Cut(7)
    assert len(by_first) > 1
    for first, cases in by_first:
        assert first in every_cut(400)
        cuts = [case.second.after for case in cases if case.second is not None]
        assert cuts == sorted(set(cuts), reverse=True)
        assert cuts[0] < 400
        assert cuts[-1] == 0


def test_a_first_cut_that_leaves_nothing_to_recover_costs_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished = Cut(19)

    def try_one(_: object, case: Case) -> Outcome:
        return Outcome(case, reached=case.first != finished)

    monkeypatch.setattr(engine, "try_case", try_one)
    outcomes = list(one_second_cut(cast(Bench, None), Case("x", finished), 20, "s"))
    assert [one.reached for one in outcomes].count(True) == 1
    assert outcomes[-1].reached


def test_a_board_may_be_of_another_version_of_micropython(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = load_board("sim-pico-w").firmware
    assert own is not None
    asked = ["--sequence", "enrol-token", "--first", "4", "--board"]
    assert main([*asked, f"sim-pico-w={own.micropython}"]) == 0
    assert "survived" in capsys.readouterr().out
    assert main([*asked, "sim-pico-w=0.0.1"]) != 0
    assert "0.0.1" in capsys.readouterr().out
    for wrong in ("sim-pico-w=", "pico-w", "=1.25.0"):
        with pytest.raises(SystemExit):
            main([*asked, wrong])


def test_a_case_says_how_to_try_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("re-enrol", Cut(3, torn=False), Cut(2, torn=False))
    assert str(case) == "--sequence re-enrol --first 3 --second 2 --clean 1 --clean 2"
    assert main(str(case).split()) == 0
    assert f"{case}: survived" in " ".join(capsys.readouterr().out.split())


def test_only_cuts_that_happened_are_counted() -> None:
    tally = Tally(10)
    tally.add(Outcome(Case("x", Cut(1)), reached=True))
    tally.add(Outcome(Case("x", Cut(1), Cut(5)), reached=False))
    tally.add(Outcome(Case("x", Cut(1), Cut(2)), reached=True, same_image=True))
    tally.add(Outcome(Case("x", Cut(2), Cut(2)), reached=True, problem="dead"))
    tally.add(Outcome(Case("x", Cut(9)), reached=False))
    assert (tally.tried, tally.first_cuts, tally.second_cuts, tally.survived) == (3, 1, 2, 2)
    assert tally.same_image == 1
    assert tally.beyond_the_end == 1
    assert tally.problems == ["--sequence x --first 2 --second 2: dead"]


def test_the_whole_run_writes_what_it_tried_and_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.power_cuts.__main__._ROTATIONS", 2)
    out = tmp_path / "out" / "power_cuts.json"
    asked = ["--sequence", "enrol-idevid", "--budget-s", "0", "--seed", "s", "--out", str(out)]
    assert main(asked) == 0
    written = json.loads(out.read_text())
    counted = written["sequences"]["enrol-idevid"]
    assert written["tried"] == counted["tried"] == written["survived"] == 0
    assert counted["left_out_for_lack_of_time"] == 2 * counted["operations"] + 500


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "power_cuts.json"
    asked = ["--sequence", "enrol-idevid", "--seed", "s", "--out", str(out), "--workers", "1"]
    main_module = sys.modules[main.__module__]
    monkeypatch.setattr(main_module, "_ROTATIONS", 2)
    monkeypatch.setattr(main_module, "_SECOND_CUTS", 1)
    tried: list[Case] = []
    seconds: list[Case] = []

    def try_two(_bench: Bench, case: Case) -> Outcome:
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append(case)
        return Outcome(case, reached=True)

    def try_on(_bench: Bench, case: Case) -> Outcome:
        tried.append(case)
        return Outcome(case, reached=True)

    def recover_from_another(_bench: Bench, case: Case) -> Outcome:
        seconds.append(case)
        return Outcome(case, reached=case.first != seconds[0].first)

    monkeypatch.setattr(SEQUENCES["enrol-idevid"], "cuts_the_host_off", True)
    monkeypatch.setattr(main_module, "try_case", try_two)
    monkeypatch.setattr(engine, "try_case", recover_from_another)
    assert main(asked) == 130
    stopped = json.loads(out.read_text())
    assert stopped["tried"] == 2
    firsts = 2 * stopped["sequences"]["enrol-idevid"]["operations"]
    assert stopped["sequences"]["enrol-idevid"]["left_out_for_lack_of_time"] == firsts - 2 + 1
    monkeypatch.setattr(main_module, "try_case", try_on)
    assert main([*asked, "--resume"]) == 0
    assert len(tried) == len(set(tried)) == firsts
    ended = json.loads(out.read_text())["sequences"]["enrol-idevid"]
    assert (ended["first_cuts"], ended["second_cuts"]) == (firsts, 1)
    assert main([*asked, "--resume", "--budget-s", "0"]) == 0
    assert "from the beginning" in capsys.readouterr().out


def test_a_journal_of_other_code_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = Journal(path, "this code")
    journal.begin("seed")
    journal.measure("x", 3)
    case = Case("x", Cut(1), Cut(2, torn=False))
    outcomes = [Outcome(case, True, "dead", same_image=True), Outcome(Case("x", Cut(1)), False)]
    journal.done("x", {"unit": outcomes})
    with path.open("a") as file:
        file.write('{"measured": "half a li')
    again = Journal(path, "this code")
    assert again.resume()
    assert (again.seed, again.measured, again.outcomes) == ("seed", {"x": 3}, {"unit": outcomes})
    other = Journal(path, "other code")
    assert not other.resume()
    assert not other.outcomes
    assert not Journal(tmp_path / "none", "this code").resume()


def test_a_board_that_does_not_come_back_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comeback, "BOOT_WITHIN_S", 0.0)
    assert main(["--sequence", "enrol-token", "--first", "4"]) == 1
    assert "--sequence enrol-token --first 4: CheckFailed" in capsys.readouterr().out
