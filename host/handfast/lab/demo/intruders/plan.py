"""How many of each kind a wave tries, and in which order: mixed, and settled beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from handfast.lab.demo.intruders.attempt import Attempt, Tls
from handfast.lab.demo.intruders.kinds import KINDS
from handfast.lab.demo.intruders.requests import Kind, Material, with_row

_VERSIONS: tuple[Tls, ...] = ("1.2", "1.3")


@dataclass(frozen=True, slots=True)
class Plan:
    """A wave's attempts: those before devices are revoked and suspended, and those after."""

    before: tuple[Attempt, ...]
    after: tuple[Attempt, ...]

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All of them."""
        return (*self.before, *self.after)


def next_numbers(judged: Mapping[str, int], *, wanted: int, most: int) -> dict[str, int]:
    """Return how many attempts of each kind the next wave makes, by title; none: all are made.

    Args:
        judged: how many have been, by title.
        wanted: of each kind.
        most: of each kind in one wave.
    """
    numbers = {kind.title: min(most, wanted - judged.get(kind.title, 0)) for kind in KINDS}
    for kind in KINDS:
        if kind.needs is not None:
            numbers[kind.needs.title] = max(numbers[kind.needs.title], numbers[kind.title])
    return {title: number for title, number in numbers.items() if number > 0}


def make_plan(
    numbers: Mapping[str, int], material: Material, random: Random, *, first: int
) -> Plan:
    """Put a wave together.

    Args:
        numbers: how many attempts of each kind, by title.
        material: what they are made of.
        random: mixes them.
        first: the first attempt's number; the others count on.
    """
    before: list[Attempt] = []
    after: list[Attempt] = []
    for kind in KINDS:
        for n in range(numbers.get(kind.title, 0)):
            attempt = _numbered(kind, kind.make(material, n), n, first + len(before) + len(after))
            (before if kind.before else after).append(attempt)
    random.shuffle(before)
    random.shuffle(after)
    return Plan(tuple(before), tuple(after))


def _numbered(kind: Kind, made: Attempt, n: int, number: int) -> Attempt:
    numbered = replace(
        made,
        number=number,
        kind=kind.title,
        # Boards speak 1.2; of everyone else's attempts every other one is 1.3.
        tls="1.2" if made.by == "board" else _VERSIONS[n % 2],
        turn=n if made.keeps or made.resumes else number,
    )
    return with_row(numbered)
