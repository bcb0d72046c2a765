"""Which lines count as run on a board."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast.lab.pytest_plugin.device_lines import lines_run, without_code


@pytest.mark.parametrize(
    ("source", "run", "added"),
    [
        ("_A = const(1)\nb = 2\n", {2}, {1}),
        ("a = 1\n_B = const(2)\n", {1}, {2}),
        ("_A = const(\n 1\n)\n_B = const(2)\nc = 3\n", {5}, {1, 2, 3, 4}),
        ("B = const(1)\nc = 2\n", {2}, set()),  # a name without an underscore is made
        ("_a = other(1)\nc = 2\n", {2}, set()),
        ("def f():\n    global a\n    a = 1\n", {1}, set()),
        ("def f():\n    global a\n    a = 1\n", {1, 3}, {2}),
        ("for a in b:\n    pass\n", {1}, {2}),
        ("for a in b:\n    pass\n", set(), set()),
        ("if a:\n    b\nelse:\n    pass\n", {1}, set()),
        ("try:\n    a\nfinally:\n    pass\n", {1, 2}, {4}),
        ("while True:\n    a\n", {2}, {1}),
        ("while True:\n    while 1:\n        pass\n        a\n", {4}, {1, 2, 3}),
        ("while True:\n    a\n", set(), set()),
        ("while a:\n    b\n", {2}, set()),
        ("@x\ndef f():\n    'doc'\n", {1}, set()),
        ("class A:\n    pass\n@x\ndef f():\n    a\n", {1, 3}, {2}),
        ("a: int\n_B = const(1)\n", set(), set()),
        ("not python", {1}, set()),
    ],
)
def test_what_has_no_code_counts_as_its_neighbours_do(
    source: str, run: set[int], added: set[int], tmp_path: Path
) -> None:
    file = tmp_path / "a.py"
    file.write_text(source)
    assert without_code(file, run) - run == added


def test_lines_belong_to_sources_of_the_project(tmp_path: Path) -> None:
    project, library = tmp_path / "project", tmp_path / "library"
    for file in (project / "device/app.py", project / "device/more.py", library / "mtls/der.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a = 1\nb = 2\n")
    first, second = tmp_path / "one.lines", tmp_path / "two.lines"
    first.write_text("app.py:1\n/lib/mtls/der.py:1\nnowhere.py:3\n\nhalf a li")
    second.write_text("app.py:2\napp.py:1\n_boot.py:3\n")
    roots = (project / "device", library)
    assert lines_run([first, second], roots, project) == {
        project / "device/app.py": {1, 2},
        project / "device/more.py": set(),
    }
    assert lines_run([first], roots, tmp_path)[library / "mtls/der.py"] == {1}
    assert lines_run([], roots, project) == {}
