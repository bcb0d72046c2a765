"""Which cuts are tried, and what is counted: no board in here."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

Item = TypeVar("Item")

_FIRST_CUTS_TRIED = 5  # until one of them leaves something that a second one can cut


@dataclass(frozen=True, slots=True)
class Cut:
    """The power fails after that many flash operations of a boot.

    ``torn`` is in the middle of the next operation, with half of it done; otherwise just before it.
    """

    after: int
    torn: bool = True

    def __str__(self) -> str:
        return f"{self.after} ({'torn' if self.torn else 'clean'})"


@dataclass(frozen=True, slots=True)
class Case:
    """A cut in a sequence, and perhaps one more in the recovery from it."""

    sequence: str
    first: Cut
    second: Cut | None = None

    def __str__(self) -> str:
        """Say it as it is given to `python -m tests.power_cuts` to be tried again."""
        said = f"--sequence {self.sequence} --first {self.first.after}"
        if self.second is not None:
            said += f" --second {self.second.after}"
        clean = [n for n, cut in (("1", self.first), ("2", self.second)) if cut and not cut.torn]
        return said + "".join(f" --clean {number}" for number in clean)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case.

    Attributes:
        reached: every cut happened; a boot may be over before the operation that was to be cut.
        problem: why the board did not survive; "" if it did.
        same_image: the cuts left what other ones had left, byte for byte: what became of the board
            from there was seen once (engine.py says why that is enough).
    """

    case: Case
    reached: bool
    problem: str = ""
    same_image: bool = False


@dataclass(slots=True)
class Tally:
    """The count of one sequence's cases.

    Attributes:
        beyond_the_end: first cuts that no operation was there for: plays differ a little in length,
            and the longest of some says how many there are.
        left_out: for lack of time.
    """

    operations: int
    first_cuts: int = 0
    beyond_the_end: int = 0
    second_cuts: int = 0
    survived: int = 0
    same_image: int = 0
    problems: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def tried(self) -> int:
        """Return the cases whose every cut happened."""
        return self.first_cuts + self.second_cuts

    def add(self, *outcomes: Outcome) -> None:
        """Count cases; one that was not reached is not counted, unless it failed."""
        for outcome in outcomes:
            if outcome.reached or outcome.problem:
                self.first_cuts += outcome.case.second is None
                self.second_cuts += outcome.case.second is not None
                self.survived += not outcome.problem
                self.same_image += outcome.same_image
            elif outcome.case.second is None:
                self.beyond_the_end += 1
            if outcome.problem:
                self.problems.append(f"{outcome.case}: {outcome.problem}")

    def as_json(self) -> dict[str, object]:
        """Return what power_cuts.json has of a sequence."""
        return {
            "operations": self.operations,
            "tried": self.tried,
            "survived": self.survived,
            "first_cuts": self.first_cuts,
            "second_cuts": self.second_cuts,
            "same_image": self.same_image,
            "beyond_the_end": self.beyond_the_end,
            "left_out_for_lack_of_time": self.left_out,
            "problems": self.problems,
        }


def every_cut(operations: int) -> list[Cut]:
    """Return both kinds of cut at each operation."""
    return [Cut(after, torn) for after in range(operations) for torn in (True, False)]


def sample(operations: int, count: int, seed: str) -> list[Cut]:
    """Draw cuts, each at most once; the same ones for the same seed."""
    cuts = every_cut(operations)
    return random.Random(seed).sample(cuts, min(count, len(cuts)))  # noqa: S311


def shuffled(items: Iterable[Item], seed: str) -> list[Item]:
    """Return the items in an order in which any beginning is spread over all of them."""
    mixed = list(items)
    random.Random(seed).shuffle(mixed)  # noqa: S311
    return mixed


def second_cases(case: Case, longest: int, seed: str) -> Iterator[Case]:
    """Yield cases with a second cut until one of them happens as it says.

    The recovery is cut ever earlier, down to its first operation; then it is that from another
    first cut, up to a handful: one at the very end may leave nothing to recover, or come after it.

    Args:
        case: has the first cut that is tried first.
        longest: operations of the sequence, and at most of its recovery.
        seed: draws the cuts.
    """
    chance = random.Random(seed)  # noqa: S311
    for _ in range(_FIRST_CUTS_TRIED):
        operations = longest
        while operations > 0:
            operations = chance.randrange(operations)
            yield replace(case, second=Cut(operations, torn=chance.random() < 0.5))
        case = replace(case, first=chance.choice(every_cut(longest)))
