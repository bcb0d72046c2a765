"""What the demo found: checks that passed or not, and figures."""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from handfast.errors import HandfastError

# A number, ``None`` where nothing was measured, or a spread: ``{"median": ..., "max": ...}``.
Figure = float | int | None | dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, held or broken.

    ``seconds`` is how long the check took to come out, waiting included.
    """

    name: str
    passed: bool
    detail: str
    seconds: float


@dataclass(slots=True)
class Report:
    """All checks in the order in which they came out, and the totals (``None``: not measured)."""

    checks: list[Check] = field(default_factory=list)
    totals: dict[str, Figure] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True when there are checks and none of them failed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @contextmanager
    def check(self, name: str) -> Iterator[list[str]]:
        """Record a check: the block fills in the detail, or raises why it failed.

        A board that falls silent or a gateway that is gone fails the check, and so does an answer
        that the block cannot make sense of; the next one goes on. A block that ends without saying
        what it saw has checked nothing, and fails.
        """
        started = time.monotonic()
        seen: list[str] = []
        passed = False
        try:
            yield seen
            passed = bool(seen)
            detail = "; ".join(seen) or "nothing was checked"
        except HandfastError as failure:
            detail = str(failure)
        except Exception as defect:
            traceback.print_exception(defect)
            detail = f"{type(defect).__name__}: {defect}"
        self.checks.append(Check(name, passed, detail, round(time.monotonic() - started, 3)))

    def fail(self, name: str, detail: str) -> None:
        """Record a check that could not even be made."""
        self.checks.append(Check(name, False, detail, 0.0))

    def absorb(self, other: Report) -> None:
        """Take over the checks and totals of a part of the demo."""
        self.checks += other.checks
        self.totals |= other.totals

    def as_json(self) -> dict[str, object]:
        """Return ``{"checks": [{"name", "passed", "detail", "seconds"}], "totals": {...}}``."""
        return {
            "checks": [
                {"name": c.name, "passed": c.passed, "detail": c.detail, "seconds": c.seconds}
                for c in self.checks
            ],
            "totals": self.totals,
        }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return median and maximum, rounded to a tenth; ``None`` where nothing was measured."""
    if not values:
        return {"median": None, "max": None}
    return {"median": round(statistics.median(values), 1), "max": round(max(values), 1)}
