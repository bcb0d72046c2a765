"""What goes into a report, and what never does."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.lab.pytest_plugin.page import page
from handfast.lab.pytest_plugin.plots import plot
from handfast.lab.pytest_plugin.recording import SERIES, Record
from handfast.lab.pytest_plugin.results import Result, base_name, flakes
from handfast.lab.pytest_plugin.secret import Secrets
from handfast.lab.pytest_plugin.sources import mapped

SVG = "{http://www.w3.org/2000/svg}"


def test_known_secrets_are_hidden_wherever_they_stand() -> None:
    secrets = Secrets()
    for secret in ("s3cret-token", "with\nnewline", "abc", ""):
        secrets.add(secret)
    assert secrets.redact("xs3cret-tokenx abc") == "x[secret]x abc"
    assert "newline" not in secrets.redact("got 'with\\nnewline'")
    assert secrets.redact("with\nnewline") == "[secret]\n[secret]"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic aHVudGVyMg==",
        "{'authorization': 'Bearer aHVudGVyMg=='}",
        'password="aHVudGVyMg=="',
        "{'token': 'aHVudGVyMg=='}",
        "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\naHVudGVyMg==\n(the board lost its power)",
    ],
)
def test_what_looks_like_a_secret_is_hidden_too(text: str) -> None:
    hidden = Secrets().redact(f"before {text}")
    assert "aHVudGVyMg" not in hidden
    assert hidden.startswith("before ")


@given(st.text())
def test_a_text_keeps_its_number_of_lines(text: str) -> None:
    secrets = Secrets()
    secrets.add(text[2:9])
    assert secrets.redact(text).count("\n") == text.count("\n")


def test_a_traceback_leads_to_the_line_in_the_source(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("one\ntwo\n  raise ValueError(1)\n")
    (tmp_path / "mtls").mkdir()
    (tmp_path / "mtls/der.py").write_text("only\n")
    (tmp_path.parent / "outside.py").write_text("no\n")
    printed = [
        "Traceback (most recent call last):",
        '  File "<stdin>", line 2, in <module>',
        '  File "app.py", line 3, in report',
        '  File "/lib/mtls/der.py", line 1, in read',
        '  File "app.py", line 30, in report',
        '  File "../outside.py", line 1, in <module>',
        "ValueError: 1",
    ]
    found = [line for line in mapped(printed, [tmp_path]) if line not in printed]
    assert found == [
        f"    → {tmp_path}/app.py:3: raise ValueError(1)",
        f"    → {tmp_path}/mtls/der.py:1: only",
    ]


def test_a_plot_is_whole_and_within_its_frame() -> None:
    drawn = plot("a < b", {"one": [(10, 5), (11, 7), (12, 5)], "two & more": [(10, 6)], "no": []})
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own
    assert root.get("aria-label") == "a < b"
    points = [(float(c.get("cx", -1)), float(c.get("cy", -1))) for c in root.iter("circle")]
    assert len(points) == 4
    assert all(0 < x < 420 and 0 < y < 150 for x, y in points)
    assert points[1][1] < points[0][1] == points[2][1]  # more is higher
    assert points[0][0] < points[1][0] < points[2][0]
    assert [t.text for t in root.iter("title")] == ["one", "two & more"]
    assert plot("nothing", {"one": []}) == ""


def record(*boards: str) -> Record:
    return Record(
        boards=list(boards),
        console={board: [["12:00", "<script>"]] for board in boards},
        notes={board: [] for board in boards},
        series={name: {} for name in SERIES},
    )


def test_a_flake_has_failed_and_has_passed() -> None:
    results = [
        Result("t.py::a[x-repeat1]", "passed", record=record("left")),
        Result("t.py::a[x-repeat2]", "failed", record=record("right")),
        Result("t.py::a[x-repeat3]", "passed", record=record("right")),
        Result("t.py::b[repeat1]", "failed"),
        Result("t.py::b[repeat2]", "failed"),
        Result("t.py::c[repeat1]", "passed"),
        Result("t.py::c[repeat2]", "skipped"),
    ]
    assert [flake.line() for flake in flakes(results)] == [
        "t.py::a[x]: failed 1 of 3 (left: 0 of 1, right: 1 of 2)"
    ]
    assert base_name("t.py::a[repeat1-x]") == "t.py::a[x]"
    assert base_name("t.py::a[repeats]") == "t.py::a[repeats]"


def test_a_page_shows_what_was_printed_as_text() -> None:
    made = page([Result("t.py::<b>", "failed", 1.0, "why <i>", record("left"))])
    for tag in ("<script>", "<b>", "<i>"):
        assert tag not in made
    assert "12:00 &lt;script&gt;" in made
    assert "why &lt;i&gt;" in made
    assert "<details open>" in made
