"""Line plots as SVG, to stand in an HTML page without anything beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 420, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 10, 22, 22
# Okabe and Ito's colours, told apart by the colour-blind too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")

Series = Mapping[str, Sequence[Sequence[float]]]  # name → (seconds, value)


def plot(title: str, series: Series) -> str:
    """Return a plot of the values over the seconds since the first; "" where there are none."""
    every = [point for points in series.values() for point in points]
    if not every:
        return ""
    begin, end = min(t for t, _ in every), max(t for t, _ in every)
    low, high = min(v for _, v in every), max(v for _, v in every)
    span_s, span = end - begin or 1.0, high - low or 1.0

    def x(seconds: float) -> float:
        return _LEFT + (seconds - begin) / span_s * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / span * (_HEIGHT - _TOP - _BOTTOM)

    drawn = [
        _curve([(x(t), y(v)) for t, v in points], _COLOURS[number % len(_COLOURS)], name)
        for number, (name, points) in enumerate(series.items())
        if points
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{escape(title)}">'
        f'<text x="{_LEFT}" y="14" class="title">{escape(title)}</text>'
        f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" class="axis"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" class="end">{high:g}</text>'
        f'<text x="{_LEFT - 4}" y="{_HEIGHT - _BOTTOM}" class="end">{low:g}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" class="end">{end - begin:.1f} s</text>'
        f"{''.join(drawn)}</svg>"
    )


def _curve(points: Sequence[tuple[float, float]], colour: str, name: str) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in points)
    return (
        f'<g fill="{colour}"><title>{escape(name)}</title>'
        f'<polyline points="{line}" fill="none" stroke="{colour}"/>{dots}</g>'
    )
