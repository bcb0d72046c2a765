"""A part of `make power-cuts`: each first cut of a re-enrolment, and a sample of all others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards import device_library, provision
from handfast.boards.serial_link import SerialLink
from handfast.lab.demo import comeback
from tests.power_cuts import sequences
from tests.power_cuts.__main__ import main
from tests.power_cuts.cases import Case, Cut, Outcome, Tally, every_cut, sample, second_cuts
from tests.power_cuts.engine import every_second_cut, measure, one_second_cut, try_case
from tests.power_cuts.rig import Bench, open_bench
from tests.power_cuts.wear import measure_wear

# Cuts of each sequence: first ones, and second ones in the recovery.
SAMPLED = {
    "provision": (40, 10),
    "enrol-token": (40, 10),
    "enrol-idevid": (30, 20),
    "decommission": (40, 10),
}
# Each of them is a test, for the processes that share the work.
PARTS = 5
SEED = "make test"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("power-cuts")) as bench:
        yield bench


def problems(outcomes: list[Outcome]) -> list[str]:
    return [f"{outcome.case}: {outcome.problem}" for outcome in outcomes if outcome.problem]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_re_enrolment_cut_at_every_operation_is_finished_at_the_next_boot(
    bench: Bench, part: int
) -> None:
    cuts = every_cut(measure(bench, "re-enrol").operations)
    assert len(cuts) >= 2 * 12
    outcomes = [try_case(bench, Case("re-enrol", cut)) for cut in cuts[part::PARTS]]
    assert problems(outcomes) == []
    assert all(outcome.reached for outcome in outcomes)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", SAMPLED)
def test_a_board_cut_at_any_operation_comes_back(bench: Bench, name: str, part: int) -> None:
    firsts, seconds = SAMPLED[name]
    operations = measure(bench, name).operations
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
    last = measure(bench, "re-enrol").operations - 1
    outcomes = list(every_second_cut(bench, Case("re-enrol", Cut(last))))
    assert problems(outcomes) == []
    assert [outcome.reached for outcome in outcomes[-2:]] == [False, False]
    assert len(outcomes) > 2 * 3


def test_a_rotation_wears_the_flash_by_few_operations(bench: Bench) -> None:
    wear = measure_wear(bench.rig(), 24)
    assert len(wear.operations) == 24
    # The first renewal takes note of the CA certificates too.
    assert max(wear.operations[:1]) <= 40
    assert max(wear.erasures[:1]) <= 8
    assert 8 <= max(wear.operations[1:]) <= 16
    assert 1 <= max(wear.erasures[1:]) <= 4
    assert sum(wear.erasures) <= 3 * 24


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
    for path in provision.firmware_dir().rglob("*.py"):
        copy = firmware / path.relative_to(provision.firmware_dir())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    text = (firmware / name).read_text()
    assert text.count(good) == 1, f"{name} has changed: choose another place to break"
    (firmware / name).write_text(text.replace(good, bad))
    for module in (provision, device_library):
        monkeypatch.setattr(module, "firmware_dir", lambda: firmware)
    monkeypatch.setattr(comeback, "BOOT_WITHIN_S", 6.0)
    with open_bench(tmp_path / "rig") as bench:
        yield bench


FORGETS_THE_OLD_LEAF_FIRST = (
    "mtls/agent.py",
    "        current = self._identity()\n        key_der",
    "        current = self._identity()\n"
    "        import os\n"
    '        os.remove("/mtls/slot-" + self.active)\n'
    "        key_der",
)
NO_TOMBSTONE = ("mtls/erase.py", "    _mark(tombstone)\n", "")
ERASES_NOTHING = (
    "mtls/erase.py",
    "    _remove_tree(store.root)\n    _overwrite_free(tombstone)\n    _require_erased()\n",
    "    _remove_tree(store.root)\n    os.remove(tombstone)\n",
)
KEY_NOT_KEPT = (
    "mtls/store.py",
    "        self.write_identity(name, key.to_der())\n        return key\n",
    "        return key\n",
)


@pytest.mark.parametrize("broken_bench", [FORGETS_THE_OLD_LEAF_FIRST], indirect=True)
def test_a_renewal_that_forgets_the_old_leaf_first_is_found_out(broken_bench: Bench) -> None:
    operations = measure(broken_bench, "re-enrol").operations
    assert is_found_out(broken_bench, [Case("re-enrol", Cut(n)) for n in range(8, operations)])


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
    push = SerialLink.push

    def application_first(self: SerialLink, files: dict[str, bytes], **how: object) -> object:
        order = sorted(files, key=lambda path: path != "/main.py")
        return push(self, {path: files[path] for path in order}, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(SerialLink, "push", application_first)
    monkeypatch.setattr(sequences, "_APPLICATION_WITHIN_S", 3.0)
    outcome = try_case(bench, Case("provision", Cut(60)))
    assert "no application runs" in outcome.problem


# What is counted


def test_every_cut_comes_in_both_kinds_and_a_sample_is_of_them() -> None:
    assert every_cut(2) == [Cut(0), Cut(0, torn=False), Cut(1), Cut(1, torn=False)]
    assert set(sample(3, 100, "s")) == set(every_cut(3))
    assert sample(300, 9, "s") == sample(300, 9, "s") != sample(300, 9, "t")
    assert len(set(sample(300, 90, "s"))) == 90


def test_second_cuts_come_ever_earlier_down_to_the_first_operation() -> None:
    cuts = [cut.after for cut in second_cuts(400, "s")]
    assert cuts == sorted(set(cuts), reverse=True)
    assert cuts[0] < 400
    assert cuts[-1] == 0


def test_a_case_says_how_to_try_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("re-enrol", Cut(3, torn=False), Cut(2, torn=False))
    assert str(case) == "--sequence re-enrol --first 3 --second 2 --clean 1 --clean 2"
    assert main(str(case).split()) == 0
    assert f"{case}: survived" in " ".join(capsys.readouterr().out.split())


def test_only_cuts_that_happened_are_counted() -> None:
    tally = Tally(10)
    tally.add(Outcome(Case("x", Cut(1)), reached=True))
    tally.add(Outcome(Case("x", Cut(1), Cut(5)), reached=False))
    tally.add(Outcome(Case("x", Cut(1), Cut(2)), reached=True))
    tally.add(Outcome(Case("x", Cut(2), Cut(2)), reached=True, problem="dead"))
    assert (tally.tried, tally.first_cuts, tally.second_cuts, tally.survived) == (3, 1, 2, 2)
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


def test_a_board_that_does_not_come_back_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comeback, "BOOT_WITHIN_S", 0.0)
    assert main(["--sequence", "enrol-token", "--first", "4"]) == 1
    assert "--sequence enrol-token --first 4: CheckFailed" in capsys.readouterr().out
