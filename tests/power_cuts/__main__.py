"""`make power-cuts`: cut the power at every flash operation of each sequence, and again.

Writes benchmarks/out/power_cuts.json. One case is tried again with what a failure names, such as
`python -m tests.power_cuts --sequence enrol-token --first 17 --second 5 --clean 2`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from handfast.errors import HandfastError
from handfast.files import write_atomically
from handfast.lab.parallel import in_parallel
from tests.power_cuts.cases import Case, Cut, Outcome, Tally, every_cut, sample, shuffled
from tests.power_cuts.engine import every_second_cut, measure, one_second_cut, try_case
from tests.power_cuts.rig import Bench, open_bench
from tests.power_cuts.sequences import SEQUENCES
from tests.power_cuts.wear import Wear, measure_wear

OUT = Path(__file__).parents[2] / "benchmarks" / "out" / "power_cuts.json"
_SECOND_CUTS = 500
_ROTATIONS = 50
# A board waits for the gateway most of the time that it has power.
_WORKERS_PER_CORE = 3


@dataclass(frozen=True, slots=True)
class Task:
    """Some cases of one sequence, one after the other."""

    sequence: str
    cases: Callable[[], Iterator[Outcome]]


def tasks_of(bench: Bench, tallies: dict[str, Tally], seed: str) -> list[Task]:
    """Return all that is to be tried: every first cut, then the second ones, samples last.

    Each part is well mixed, so that a run that ends early has seen a bit of everything.
    """
    firsts, exhaustive, drawn = [], [], []
    for name, tally in tallies.items():
        every = [Case(name, cut) for cut in every_cut(tally.operations)]
        firsts += every
        if SEQUENCES[name].exhaustive:
            exhaustive += every
        else:
            drawn += _drawn(name, tally.operations, seed)
    seconds = shuffled(exhaustive, seed) + shuffled(drawn, seed)
    return [_first(bench, case) for case in shuffled(firsts, seed)] + [
        _second(bench, case, tallies[case.sequence].operations, f"{seed}/{number}/{case}")
        for number, case in enumerate(seconds)
    ]


def _drawn(name: str, operations: int, seed: str) -> list[Case]:
    """Draw first cuts for the sampled second ones: more than there are, if need be."""
    drawn: list[Cut] = []
    while len(drawn) < _SECOND_CUTS:
        left = _SECOND_CUTS - len(drawn)
        drawn += sample(operations, left, f"{seed}/{name}/{left}")
    return [Case(name, cut) for cut in drawn]


def _first(bench: Bench, case: Case) -> Task:
    return Task(case.sequence, lambda: iter([try_case(bench, case)]))


def _second(bench: Bench, case: Case, longest: int, seed: str) -> Task:
    if SEQUENCES[case.sequence].exhaustive:
        return Task(case.sequence, lambda: every_second_cut(bench, case))
    return Task(case.sequence, lambda: one_second_cut(bench, case, longest, seed))


def sweep(
    tasks: Sequence[Task],
    tallies: dict[str, Tally],
    *,
    workers: int,
    deadline: float,
    console: Console,
) -> None:
    """Work through the tasks up to the deadline, and count."""
    lock = threading.Lock()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("power cuts", total=len(tasks))

        def work(task: Task) -> None:
            tally = tallies[task.sequence]
            whole = False
            if time.monotonic() < deadline:
                whole = True
                for outcome in task.cases():
                    with lock:
                        tally.add(outcome)
                    if outcome.problem:
                        progress.console.print(f"[red]lost[/red]: {tally.problems[-1]}")
                    if time.monotonic() >= deadline:
                        whole = False
                        break
            with lock:
                tally.left_out += not whole
                tried = sum(one.tried for one in tallies.values())
            progress.update(bar, advance=1, description=f"{tried} power cuts")

        in_parallel(work, tasks, at_once=workers)


def report(tallies: dict[str, Tally], wear: Wear, about: dict[str, object]) -> dict[str, object]:
    """Return the document that is written."""
    return {
        "tried": sum(tally.tried for tally in tallies.values()),
        "survived": sum(tally.survived for tally in tallies.values()),
        "sequences": {name: tally.as_json() for name, tally in tallies.items()},
        "wear": wear.as_json(),
        **about,
    }


def show(console: Console, tallies: dict[str, Tally], wear: Wear) -> None:
    """Print what was tried."""
    table = Table(title="Power cuts")
    for heading in ("sequence", "operations", "first cuts", "second cuts", "survived", "left out"):
        table.add_column(heading, justify="left" if heading == "sequence" else "right")
    for name, tally in tallies.items():
        counts = (
            *(tally.operations, tally.first_cuts, tally.second_cuts),
            *(tally.survived, tally.left_out),
        )
        table.add_row(name, *(str(count) for count in counts))
    console.print(table)
    worn = wear.as_json()
    console.print(
        f"a rotation: {worn['operations_mean']} flash operations, {worn['operations_most']} at "
        f"most; {worn['erasures_mean']} erasures, {worn['erasures_most']} at most"
    )


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
    add("--board", default="sim-pico-w", help="the simulated board")
    add("--out", type=Path, default=OUT)
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
    seed = arguments.seed or secrets.token_hex(4)
    names = arguments.sequence or list(SEQUENCES)
    tallies = {name: Tally(measure(bench, name).operations) for name in names}
    wear = measure_wear(bench.rig(), _ROTATIONS)
    workers = arguments.workers or _WORKERS_PER_CORE * len(os.sched_getaffinity(0))
    sweep(
        tasks_of(bench, tallies, seed),
        tallies,
        workers=workers,
        deadline=started + arguments.budget_s,
        console=console,
    )
    seconds = round(time.monotonic() - started, 1)
    show(console, tallies, wear)
    about = {"board": arguments.board, "seed": seed, "seconds": seconds}
    document = report(tallies, wear, about)
    arguments.out.parent.mkdir(exist_ok=True)
    write_atomically(arguments.out, json.dumps(document, indent=2).encode() + b"\n")
    console.print(f"{document['survived']} of {document['tried']} survived, seed {seed}")
    return 0 if document["survived"] == document["tried"] else 1


def main(given: Sequence[str] | None = None) -> int:
    """Try what was asked for; 1 if a board did not survive."""
    arguments = _arguments(given)
    console = Console()
    try:
        with (
            tempfile.TemporaryDirectory(
                prefix="handfast-cuts-", ignore_cleanup_errors=True
            ) as name,
            open_bench(Path(name), arguments.board) as bench,
        ):
            run = _whole if arguments.first is None else _one_case
            return run(bench, arguments, console)
    except HandfastError as error:
        console.print(f"power-cuts: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        console.print("stopped: nothing is written")
        return 130


if __name__ == "__main__":
    sys.exit(main())
