"""The tutorial's blocks, executed from the installed wheel in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs/tutorial/hardware-in-the-loop.md").read_text()

# A file's name on a line of its own before its block, or commands.
_BLOCK = re.compile(
    r"(?:^`(?P<file>[\w/.]+)`\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks() -> list[tuple[str | None, str, str]]:
    return [(m["file"], m["kind"], m["text"]) for m in _BLOCK.finditer(TUTORIAL)]


def shell(folder: Path, commands: str) -> str:
    ours = ("PYTHONPATH", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("PYTEST")}
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}"
    return done.stdout


@pytest.mark.timeout(900)
def test_the_tutorial_leads_from_an_empty_folder_to_passing_tests(tmp_path: Path) -> None:
    dist, folder = tmp_path / "dist", tmp_path / "project"
    folder.mkdir()
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", dist, ROOT]
    subprocess.run(build, check=True, timeout=200, capture_output=True)
    (wheel,) = dist.glob("*.whl")
    printed = ""
    for file, kind, text in blocks():
        if kind == "python":
            assert file is not None, f"a block without a file's name:\n{text}"
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif kind == "sh":
            commands = text.replace("install handfast ", f"install --quiet {wheel} ")
            active = ". .venv/bin/activate\n" if (folder / ".venv").exists() else ""
            printed += shell(folder, active + commands)
    assert [line for line in printed.splitlines() if "passed in" in line and "failed" not in line]
    assert re.findall(r"(\d+) passed", printed) == ["2", "6", "2"], printed
    report = (folder / "report.html").read_text()
    assert "the power failed" in report
    assert "test_a_temperature_outlives_a_power_loss" in report


def test_every_block_of_the_tutorial_is_executed_or_marked_as_text() -> None:
    kinds = [kind for _, kind, _ in blocks()]
    assert len(kinds) == TUTORIAL.count("```") // 2
    assert set(kinds) == {"sh", "python", "text"}
    assert kinds.count("text") == 1  # what needs a board
