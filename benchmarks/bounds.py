"""What a figure may be at most, and which are more: a benchmark ends with exit code 1 for those."""

from __future__ import annotations

from collections.abc import Mapping


def missed(figures: Mapping[str, int], bounds: Mapping[str, int | None]) -> list[str]:
    """Return a sentence for each figure above its bound, in the order of the bounds.

    Args:
        figures: what was measured.
        bounds: the most that each may be; None: told, not bounded.

    Raises:
        KeyError: a figure that is bounded was not measured.
    """
    return [
        f"{name} is {figures[name]:,}, and {most:,} at most"
        for name, most in bounds.items()
        if most is not None and figures[name] > most
    ]


def at_most(name: str, value: int, bounds: Mapping[str, int | None]) -> str:
    """Return a table's cell: the bound, and whether it was missed; empty without one."""
    most = bounds.get(name)
    if most is None:
        return ""
    return f"{most:,}: missed" if value > most else f"{most:,}"
