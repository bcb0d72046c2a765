"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from handfast.lab.pytest_plugin.plots import plot
from handfast.lab.pytest_plugin.recording import SERIES, Record, console_text
from handfast.lab.pytest_plugin.results import Result, flakes

_STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color:#222}
h1{font-size:1.4em} details{border:1px solid #ccc;border-radius:4px;margin:.4em 0;padding:.3em .7em}
summary{cursor:pointer} pre{background:#f4f4f4;overflow:auto;padding:.6em;font-size:13px}
.passed{color:#00734f}.failed{color:#b3002d}.skipped{color:#7a5c00}
svg text{font:11px sans-serif;fill:#444}svg .title{font-weight:600}svg .end{text-anchor:end}
svg .axis{fill:none;stroke:#999}
"""


def page(results: Sequence[Result]) -> str:
    """Return the report of these tests."""
    counts = Counter(result.outcome for result in results)
    told = ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped"))
    flaky = [f"<li>{escape(flake.line())}</li>" for flake in flakes(results)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Handfast: '
        f"{told}</title><style>{_STYLE}</style></head><body><h1>Handfast test report</h1>"
        f"<p>{told}</p>"
        + (f"<h2>Flaky</h2><ul>{''.join(flaky)}</ul>" if flaky else "")
        + "".join(_test(result) for result in results)
        + "</body></html>\n"
    )


def _test(result: Result) -> str:
    opened = " open" if result.outcome == "failed" else ""
    on = f" on {', '.join(result.record['boards'])}" if result.record else ""
    return (
        f'<details{opened}><summary><b class="{result.outcome}">{result.outcome}</b> '
        f"{escape(result.nodeid)} <small>{escape(on)}, {result.seconds:.1f} s</small></summary>"
        + (f"<pre>{escape(result.detail)}</pre>" if result.detail else "")
        + (_boards(result.record) if result.record else "")
        + "</details>"
    )


def _boards(record: Record) -> str:
    plots = [plot(title, record["series"][name]) for name, title in SERIES.items()]
    parts = [f"<div>{''.join(plots)}</div>"]
    for board in record["boards"]:
        parts.append(f"<h3>{escape(board)}</h3>")
        parts += [f"<p>{escape(note)}</p>" for note in record["notes"][board]]
        parts.append(f"<pre>{escape(console_text(record, board)) or 'it printed nothing'}</pre>")
    return "".join(parts)
