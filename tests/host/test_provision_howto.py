"""docs/how-to/provision-boards.md: its commands exist, and what it links to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from handfast.cli.provision import command as provision

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "how-to" / "provision-boards.md"
PAGE = FILE.read_text()
COMMANDS = re.findall(r"^handfast provision (.*)$", PAGE, re.MULTILINE)


def test_commands_are_shown() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_exists(line: str) -> None:
    provision.make_context("provision", shlex.split(line))  # raises for what it does not know


def test_linked_files_are_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (FILE.parent / link).exists(), link
