"""`make power-cuts`: cut the power at every flash operation of each sequence, and again.

Writes benchmarks/out/power_cuts.json. One case is tried again with what a failure names, such as
`python -m tests.power_cuts --sequence enrol-token --first 17 --second 5 --clean 2`. A run that was
stopped, by Ctrl-C or for lack of time, has written what it had; `--resume` goes on with it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from handfast.boards.definition import list_boards
from handfast.errors import HandfastError
from handfast.files import write_atomically
from handfast.lab.parallel import in_parallel
from tests.power_cuts.cases import Case, Cut, Outcome, Tally, every_cut, sample, shuffled
from tests.power_cuts.engine import (
    every_first_cut,
    every_second_cut,
    measure,
    one_second_cut,
    try_case,
)
from tests.power_cuts.journal import Journal, key_of
from tests.power_cuts.rig import Bench, open_bench, profile_and_version
from tests.power_cuts.sequences import SEQUENCES
from tests.power_cuts.wear import Wear, measure_wear

OUT = Path(__file__).parents[2] / "benchmarks" / "out" / "power_cuts.json"
_SECOND_CUTS = 500
_ROTATIONS = 50
# How many operations there are differs a little from play to play.
_PLAYS = 3
# A board waits for the gateway most of the time that it has power.
_WORKERS_PER_CORE = 4
# Flash operations of a sequence whose cuts are worked through together: one play shows them all,
# and neighbours often leave the same image.
_TOGETHER = 4
_INTERRUPTED = 130
# Figures in the journal.
_WEAR, _SECONDS = "wear", "seconds"


@dataclass(frozen=True, slots=True)
class Task:
    """Work of one thread.

    Attributes:
        units: the first cut of each part that a resumed run may leave out, by its name.
        try_: tries what belongs to some of the first cuts; yields what came of units, by their
            names, as they are done.
    """

    sequence: str
    units: dict[str, Cut]
    try_: Callable[[Sequence[Cut]], Iterator[dict[str, list[Outcome]]]]


def tasks_of(bench: Bench, operations: dict[str, int], seed: str) -> list[Task]:
    """Return all that is to be tried: first cuts, then the second ones.

    Each part is well mixed, so that a run that ends early has seen a bit of everything.
    """
    firsts, seconds = [], []
    for name, count in operations.items():
        cuts, size = every_cut(count), 2 * _TOGETHER
        chunks = [cuts[start : start + size] for start in range(0, len(cuts), size)]
        if SEQUENCES[name].exhaustive:
            seconds += [_exhaustive(bench, name, chunk) for chunk in chunks]
        else:
            firsts += [_firsts(bench, name, chunk) for chunk in chunks]
            for number, cut in enumerate(_drawn(name, count, seed)):
                seconds.append(_second(bench, Case(name, cut), count, f"{seed}/{number}"))
    return shuffled(firsts, seed) + shuffled(seconds, seed)


def _drawn(name: str, operations: int, seed: str) -> list[Cut]:
    """Draw first cuts for the sampled second ones: more than there are, if need be."""
    drawn: list[Cut] = []
    while len(drawn) < _SECOND_CUTS:
        left = _SECOND_CUTS - len(drawn)
        drawn += sample(operations, left, f"{seed}/{name}/{left}")
    return drawn


def _firsts(bench: Bench, name: str, cuts: Sequence[Cut]) -> Task:
    def one_by_one(firsts: Sequence[Cut]) -> Iterator[list[Outcome]]:
        return ([try_case(bench, Case(name, cut))] for cut in firsts)

    units = {f"first cut {Case(name, cut)}": cut for cut in cuts}
    if SEQUENCES[name].cuts_the_host_off:
        return Task(name, units, lambda firsts: _by_unit(units, one_by_one(firsts)))
    return Task(name, units, lambda firsts: _by_unit(units, every_first_cut(bench, name, firsts)))


def _second(bench: Bench, case: Case, longest: int, seed: str) -> Task:
    unit = f"second cut {seed} {case}"

    def draw(_: Sequence[Cut]) -> Iterator[dict[str, list[Outcome]]]:
        # All of it is this unit's: what is drawn may have led to other first cuts.
        yield {unit: list(one_second_cut(bench, case, longest, f"{seed}/{case}"))}

    return Task(case.sequence, {unit: case.first}, draw)


def _exhaustive(bench: Bench, name: str, cuts: Sequence[Cut]) -> Task:
    units = {f"every second cut {Case(name, cut)}": cut for cut in cuts}
    return Task(name, units, lambda firsts: _by_unit(units, every_second_cut(bench, name, firsts)))


def _by_unit(
    units: dict[str, Cut], tried: Iterator[list[Outcome]]
) -> Iterator[dict[str, list[Outcome]]]:
    """Sort outcomes by the unit whose first cut they have."""
    names = {cut: name for name, cut in units.items()}
    for outcomes in tried:
        found: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            found.setdefault(names[outcome.case.first], []).append(outcome)
        yield found


class Sweep:
    """Works through tasks, counts, and keeps what is done.

    Args:
        tasks: of which those that the journal has are left out.
        tallies: of each sequence; they have what the journal has.
        journal: is told of each unit.
    """

    def __init__(self, tasks: Sequence[Task], tallies: dict[str, Tally], journal: Journal) -> None:
        self._tasks = tasks
        self._tallies = tallies
        self._journal = journal
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self, *, workers: int, deadline: float, console: Console) -> bool:
        """Go on up to the deadline; False if Ctrl-C came first."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        units = [unit for task in self._tasks for unit in task.units]
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("power cuts", total=len(units))

            def show() -> None:
                tried = sum(tally.tried for tally in self._tallies.values())
                done = sum(unit in self._journal.outcomes for unit in units)
                progress.update(bar, completed=done, description=f"{tried} power cuts")

            def work(task: Task) -> None:
                try:
                    for problem in self._work(task, deadline):
                        progress.console.print(f"[red]lost[/red]: {problem}")
                except BaseException:
                    self._over.set()  # the others are waited for: up to their next outcome
                    raise
                with self._lock:
                    show()

            show()
            try:
                in_parallel(work, self._tasks, at_once=workers)
            except KeyboardInterrupt:
                return False
            finally:
                with self._lock:  # what ends from now on was disturbed, and is not counted
                    self._over.set()
                    self._leave_out()
        return True

    def _work(self, task: Task, deadline: float) -> Iterator[str]:
        """Do what is left of a task; yields what the boards did not survive."""
        todo = [cut for name, cut in task.units.items() if name not in self._journal.outcomes]
        if not todo or time.monotonic() >= deadline:
            return
        for found in task.try_(todo):
            outcomes = list(chain(*found.values()))
            with self._lock:
                if self._over.is_set():
                    return
                self._tallies[task.sequence].add(*outcomes)
                self._journal.done(task.sequence, found)
            yield from (f"{one.case}: {one.problem}" for one in outcomes if one.problem)
            if time.monotonic() >= deadline:
                return

    def _leave_out(self) -> None:
        for task in self._tasks:
            left = sum(unit not in self._journal.outcomes for unit in task.units)
            self._tallies[task.sequence].left_out += left


def report(tallies: dict[str, Tally], wear: Wear, about: dict[str, object]) -> dict[str, object]:
    """Return the document that is written."""
    return {
        "tried": sum(tally.tried for tally in tallies.values()),
        "survived": sum(tally.survived for tally in tallies.values()),
        "same_image": sum(tally.same_image for tally in tallies.values()),
        "sequences": {name: tally.as_json() for name, tally in tallies.items()},
        "wear": wear.as_json(),
        **about,
    }


def show(console: Console, tallies: dict[str, Tally], wear: Wear) -> None:
    """Print what was tried."""
    table = Table(title="Power cuts")
    for heading in (
        *("sequence", "operations", "first cuts", "second cuts", "of the same image"),
        *("survived", "beyond the end", "left out"),
    ):
        table.add_column(heading, justify="left" if heading == "sequence" else "right")
    for name, tally in tallies.items():
        counts = (
            *(tally.operations, tally.first_cuts, tally.second_cuts, tally.same_image),
            *(tally.survived, tally.beyond_the_end, tally.left_out),
        )
        table.add_row(name, *(str(count) for count in counts))
    console.print(table)
    worn = wear.as_json()
    console.print(
        f"a rotation: {worn['operations_mean']} flash operations, {worn['operations_most']} at "
        f"most; {worn['erasures_mean']} erasures, {worn['erasures_most']} at most"
    )


def _simulated(board: str) -> str:
    """Check NAME or NAME=VERSION of a simulated board; a version's source is looked for later."""
    profile, version = profile_and_version(board)
    boards = list_boards(kind="simulated")
    if profile not in boards or ("=" in board and not version):
        names = " or ".join(boards)
        raise argparse.ArgumentTypeError(f"{board!r}: choose {names}, or one of them with =VERSION")
    return board


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.power_cuts", description=__doc__)
    add = parser.add_argument
    add("--sequence", action="append", choices=SEQUENCES, help="all of them by default")
    add("--first", type=int, help="try one case: cut after so many flash operations")
    add("--second", type=int, help="and once more, after so many of the recovery")
    add("--clean", action="append", choices=("1", "2"), default=[], help="a cut that tears nothing")
    add("--seed", help="draws the second cuts; one is made unless it is given")
    add("--budget-s", type=float, default=float("inf"), help="begin nothing new after so long")
    add("--workers", type=int, help="boards at once")
    add(
        "--board",
        default="sim-pico-w",
        type=_simulated,
        metavar="NAME[=VERSION]",
        help="the simulated board, and the version of MicroPython if not its own",
    )
    add("--out", type=Path, default=OUT)
    add("--resume", action="store_true", help="go on with a run of the same code that was stopped")
    arguments = parser.parse_args(given)
    if arguments.first is not None and len(arguments.sequence or []) != 1:
        parser.error("--first needs one --sequence")
    return arguments


def _one_case(bench: Bench, arguments: argparse.Namespace, console: Console) -> int:
    first = Cut(arguments.first, torn="1" not in arguments.clean)
    second = arguments.second
    case = Case(
        arguments.sequence[0],
        first,
        None if second is None else Cut(second, torn="2" not in arguments.clean),
    )
    outcome = try_case(bench, case)
    reached = "" if outcome.reached else " (not every cut was reached)"
    console.print(f"{case}: {outcome.problem or 'survived'}{reached}")
    return 1 if outcome.problem else 0


def _whole(bench: Bench, arguments: argparse.Namespace, console: Console) -> int:
    started = time.monotonic()
    journal = _journal(arguments, console)
    earlier_s = journal.measured.get(_SECONDS, 0.0)
    tallies = _tallies(bench, arguments.sequence or list(SEQUENCES), journal)
    wear = _wear(bench, journal)
    operations = {name: tally.operations for name, tally in tallies.items()}
    workers = arguments.workers or _WORKERS_PER_CORE * len(os.sched_getaffinity(0))
    ended = Sweep(tasks_of(bench, operations, journal.seed), tallies, journal).run(
        workers=workers, deadline=started + arguments.budget_s, console=console
    )
    seconds = round(earlier_s + time.monotonic() - started, 1)
    journal.measure(_SECONDS, seconds)
    show(console, tallies, wear)
    about = {"board": arguments.board, "seed": journal.seed, "seconds": seconds}
    document = report(tallies, wear, about)
    write_atomically(arguments.out, json.dumps(document, indent=2).encode() + b"\n")
    console.print(
        f"{document['survived']} of {document['tried']} survived, {document['same_image']} of them "
        f"by the same image as others; seed {journal.seed}"
    )
    if any(tally.left_out for tally in tallies.values()):
        console.print("not all was tried: --resume goes on")
    else:
        journal.end()
    if not ended:
        return _INTERRUPTED
    return 0 if document["survived"] == document["tried"] else 1


def _journal(arguments: argparse.Namespace, console: Console) -> Journal:
    journal = Journal(arguments.out.with_suffix(".journal"), key_of(arguments.board))
    if arguments.resume:
        if journal.resume():
            console.print(f"{len(journal.outcomes)} parts are done; seed {journal.seed}")
            return journal
        console.print("there is nothing of this code to go on with: from the beginning")
    journal.begin(arguments.seed or secrets.token_hex(4))
    return journal


def _tallies(bench: Bench, names: Sequence[str], journal: Journal) -> dict[str, Tally]:
    for name in names:
        if name not in journal.measured:
            played = [measure(bench, name).operations for _ in range(_PLAYS)]
            journal.measure(name, max(played))
    tallies = {name: Tally(journal.measured[name]) for name in names}
    for outcomes in journal.outcomes.values():
        for outcome in outcomes:
            if outcome.case.sequence in tallies:
                tallies[outcome.case.sequence].add(outcome)
    return tallies


def _wear(bench: Bench, journal: Journal) -> Wear:
    if _WEAR not in journal.measured:
        wear = measure_wear(bench.rig(), _ROTATIONS)
        journal.measure(_WEAR, [wear.operations, wear.erasures])
    operations, erasures = journal.measured[_WEAR]
    return Wear(tuple(operations), tuple(erasures))


def main(given: Sequence[str] | None = None) -> int:
    """Try what was asked for; 1 if a board did not survive."""
    arguments = _arguments(given)
    console = Console()
    try:
        with open_bench(arguments.board) as bench:
            run = _whole if arguments.first is None else _one_case
            return run(bench, arguments, console)
    except HandfastError as error:
        console.print(f"power-cuts: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        console.print("stopped")
        return _INTERRUPTED


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who stops it otherwise means it too
    sys.exit(main())
