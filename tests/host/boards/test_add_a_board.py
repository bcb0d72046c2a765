"""docs/how-to/add-a-board.md, done: its file is written, its commands run, its mistake made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[3] / "docs/how-to/add-a-board.md").read_text()
(DEFINITION,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
(MISTAKE,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
(FILE,) = re.findall(r"the file `(.*?)`:", PAGE)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    command = tmp_path / "bin" / "handfast"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m handfast "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    state = str(tmp_path / "state")  # no simulated board of the user's is asked
    return os.environ | {"PATH": path, "XDG_STATE_HOME": state, "COLUMNS": "200"}


def shell(commands: str, folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def write(folder: Path, text: str) -> None:
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text(text)


def test_the_pages_commands_add_the_pages_board(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    write(tmp_path, DEFINITION)
    code, output, errors = shell(COMMANDS, tmp_path, environment)
    assert code == 0, errors
    assert "board definitions checked: 1, all valid" in output
    assert re.search(r"│ esp32-s2 +│ hardware", output)
    assert re.search(r"flash\.loader\.image_offset +0x1000", output)


def test_the_pages_mistake_is_said_as_the_page_says(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    write(tmp_path, DEFINITION.replace("chip = ", 'chip = "esp32s2"\nchipp = ', 1))
    code, _, errors = shell(COMMANDS, tmp_path, environment)
    assert code == 1
    assert errors.startswith(MISTAKE)
