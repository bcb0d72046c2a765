"""Cut, boot again, cut again, boot again, judge.

A case is tried in one of two ways. :func:`try_case` cuts the power for real, wherever it is told
to. :func:`every_second_cut` goes through all cuts of a recovery and needs no run of the board for
each: the board waits before each flash operation and in the middle of it (stepped.py), and what
its flash and the gateway hold then is what a clean or a torn cut of that operation would leave.
From each of these states the board is put on its way once.

**The same image.** Two cuts may leave the same raw image, byte for byte, and the gateway with the
same rows of the device: half of a page that is 0xff from there on is all of it, half of a sector
that was blank is blank. What a board does with its power is decided by its flash, by what the
gateway holds of it, by the time of day and by chance (fresh keys, nonces, jitter). Its RAM and its
clock begin anew with each power-on, its hardware id is the same, and nothing else in the gateway
differs between two cases of a rig. The time of day decides nothing within the hours of a run
(leaves live a day, and one is made due by name), and chance is drawn anew in each boot anyway: to
go on twice from one state would be a second draw of one case, not another case. So it is done once,
and what comes of it holds for each of the cases; they count as tried, and those of them that were
not gone on from again count as ``same_image`` besides. States are compared by SHA-256, only within
one recovery from one first cut, or within one play of the sequence: what a judge holds against a
board, such as the events since its first cut, is then the same too.

**The recovery** is the boot after the first cut, from its first flash operation up to its first
acknowledged report, which for a sequence that renews is all of: the seed, the leaf, its proof and
pointer, the anchors. What a later cut interrupts is another boot of a board that has recovered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from handfast.lab.demo.comeback import Vigil
from tests.power_cuts.cases import Case, Cut, Outcome, every_cut, second_cases
from tests.power_cuts.rig import Bench, Place, State
from tests.power_cuts.sequences import SEQUENCES, CutSequence, Ran
from tests.power_cuts.stepped import SteppedBoard

_CUT = Ran(power_was_cut=True)


def measure(bench: Bench, name: str) -> Ran:
    """Play a sequence without a cut: how many flash operations there are to be cut at."""
    sequence = SEQUENCES[name]
    with bench.place(sequence) as place:
        return sequence.play(place.rig, place.board, None)


def try_case(bench: Bench, case: Case) -> Outcome:
    """Cut a board's power where the case says, let it come back, and judge it."""
    sequence = SEQUENCES[case.sequence]
    reached = False
    try:
        with bench.place(sequence) as place:
            rig, board = place.rig, place.board
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
        return Outcome(case, reached, _said(failure))
    return Outcome(case, reached)


def one_second_cut(bench: Bench, case: Case, longest: int, seed: str) -> Iterator[Outcome]:
    """Try one cut of the recovery from a first cut, drawn by the seed (see second_cases)."""
    for drawn in second_cases(case, longest, seed):
        outcome = try_case(bench, drawn)
        yield outcome
        if outcome.reached or outcome.problem:
            return


def _said(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}"


# Every cut


def every_first_cut(bench: Bench, name: str, firsts: Sequence[Cut]) -> Iterator[list[Outcome]]:
    """Cut a sequence at each of the places given, and judge the recovery; yields as they end."""
    return _from_each_state(bench, name, firsts, _first_outcomes)


def every_second_cut(bench: Bench, name: str, firsts: Sequence[Cut]) -> Iterator[list[Outcome]]:
    """Judge the recovery from each of the first cuts, and cut it at every operation.

    Yields all the outcomes of one first cut, or of several that leave the same state, at a time.
    """
    return _from_each_state(bench, name, firsts, _second_outcomes)


@dataclass(frozen=True, slots=True)
class _Walk:
    """A board that was put back to what first cuts left, and is to be judged for them."""

    sequence: CutSequence
    place: Place
    state: State
    firsts: Sequence[Cut]
    vigil: Vigil

    def judge(self, runs: Sequence[Ran]) -> None:
        self.sequence.judge(self.place.rig, self.place.board, self.vigil, runs)

    def recover(self) -> Ran:
        return self.sequence.recover(self.place.rig, self.place.board, None)

    def outcomes(self, seconds: Sequence[Cut | None], problem: str, *, seen: bool) -> list[Outcome]:
        """Return what one return, that was ``seen`` before or not, says of all these cases."""
        cases = [Case(self.sequence.name, a, b) for a in self.firsts for b in seconds]
        return [
            Outcome(case, True, problem, same_image=seen or number > 0)
            for number, case in enumerate(cases)
        ]


def _from_each_state(
    bench: Bench,
    name: str,
    firsts: Sequence[Cut],
    outcomes: Callable[[_Walk], list[Outcome]],
) -> Iterator[list[Outcome]]:
    sequence = SEQUENCES[name]
    with bench.place(sequence) as place:
        _, states = _stepped(place, lambda: sequence.play(place.rig, place.board, None))
        missing = [first for first in firsts if first not in states]
        yield [Outcome(Case(name, first), reached=False) for first in missing]
        for state, alike in _alike({first: states[first] for first in firsts if first in states}):
            place.put_back(state)
            vigil = Vigil(place.rig.scene, place.board)
            yield outcomes(_Walk(sequence, place, state, alike, vigil))


def _first_outcomes(walk: _Walk) -> list[Outcome]:
    problem = ""
    try:
        walk.judge([_CUT, walk.recover()])
    except Exception as failure:  # whatever it is, it belongs to these cases
        problem = _said(failure)
    return walk.outcomes([None], problem, seen=False)


def _second_outcomes(walk: _Walk) -> list[Outcome]:
    states: dict[Cut, State] = {}
    problem = ""
    try:
        ran, states = _stepped(walk.place, walk.recover)
        walk.judge([_CUT, ran])
    except Exception as failure:  # whatever it is, it belongs to these cases
        problem = _said(failure)
    found = walk.outcomes([None], problem, seen=False)
    for state, seconds in _alike(states):
        # A clean cut before anything is done leaves what there was: that has just been judged.
        seen = state.key == walk.state.key
        found += walk.outcomes(seconds, problem if seen else _go_on(walk, state), seen=seen)
    return found


def _go_on(walk: _Walk, state: State) -> str:
    """Let a board go on from what a second cut left; returns why it did not survive, or ""."""
    try:
        walk.place.put_back(state)
        walk.judge([_CUT, _CUT, walk.recover()])
    except Exception as failure:  # whatever it is, it belongs to this case
        return _said(failure)
    return ""


def _stepped(place: Place, run: Callable[[], Ran]) -> tuple[Ran, dict[Cut, State]]:
    """Run a board that waits at each moment; returns what each cut of the run would have left.

    Raises:
        Exception: what the run raised, or what kept a state from being seen.
    """
    board = place.board.board
    if not isinstance(board, SteppedBoard):
        raise TypeError(f"{board.name} cannot be looked at between its flash operations")
    seen: list[State | Exception] = []

    def look() -> None:
        try:
            seen.append(place.rig.state(place.board))
        except Exception as failure:  # raised below, in the thread that asked
            seen.append(failure)

    board.on_moment = look
    try:
        ran = run()
    finally:
        board.on_moment = None
    states: dict[Cut, State] = {}
    # What was begun after the end that was waited for is no part of it.
    for number, state in enumerate(seen[: 2 * ran.operations]):
        if isinstance(state, Exception):
            raise state
        states[Cut(number // 2, torn=number % 2 == 1)] = state
    if len(states) != len(every_cut(ran.operations)):
        raise RuntimeError(f"{ran.operations} flash operations, but {len(states)} moments of them")
    return ran, states


def _alike(states: dict[Cut, State]) -> list[tuple[State, list[Cut]]]:
    """Gather the cuts that leave the same state."""
    gathered: dict[bytes, tuple[State, list[Cut]]] = {}
    for cut, state in states.items():
        gathered.setdefault(state.key, (state, []))[1].append(cut)
    return list(gathered.values())
