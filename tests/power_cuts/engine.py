"""Cut, boot again, cut again, boot again, judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from handfast.lab.demo.comeback import Vigil
from tests.power_cuts.cases import Case, Cut, Outcome, second_cuts
from tests.power_cuts.rig import Bench
from tests.power_cuts.sequences import SEQUENCES, Ran


def measure(bench: Bench, name: str) -> Ran:
    """Play a sequence without a cut: how many flash operations there are to be cut at."""
    sequence = SEQUENCES[name]
    rig = bench.rig(sequence.rollover)
    with sequence.prepare(rig) as board:
        return sequence.play(rig, board, None)


def try_case(bench: Bench, case: Case) -> Outcome:
    """Cut a board's power where the case says, let it come back, and judge it."""
    sequence = SEQUENCES[case.sequence]
    reached = False
    try:
        rig = bench.rig(sequence.rollover)
        with sequence.prepare(rig) as board:
            runs = [sequence.play(rig, board, case.first)]
            if not runs[0].power_was_cut:
                return Outcome(case, reached=False)
            vigil = Vigil(rig.scene, board)
            if case.second is not None:
                runs.append(sequence.recover(rig, board, case.second))
            reached = runs[-1].power_was_cut
            if reached:
                runs.append(sequence.recover(rig, board, None))
            sequence.judge(rig, board, vigil, runs)
    except Exception as failure:  # whatever it is, it belongs to this case
        return Outcome(case, reached, f"{type(failure).__name__}: {failure}")
    return Outcome(case, reached)


def every_second_cut(bench: Bench, case: Case) -> Iterator[Outcome]:
    """Try each cut of the recovery from a first cut, until none of them is within it any more."""
    after = 0
    while True:
        outcomes = [
            try_case(bench, replace(case, second=Cut(after, torn))) for torn in (True, False)
        ]
        yield from outcomes
        if not any(outcome.reached for outcome in outcomes):
            return
        after += 1


def one_second_cut(bench: Bench, case: Case, longest: int, seed: str) -> Iterator[Outcome]:
    """Try one cut of the recovery from a first cut, drawn by the seed."""
    for cut in second_cuts(longest, seed):
        outcome = try_case(bench, replace(case, second=cut))
        yield outcome
        if outcome.reached or outcome.problem:
            return
