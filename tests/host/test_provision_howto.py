"""docs/how-to/provision-boards.md: its commands exist, and what it links to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from handfast.boards.definition import load_board
from handfast.cli.flash import command as flash
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


def test_a_board_out_of_its_bag_is_flashed_and_then_provisioned_at_the_same_port() -> None:
    line = PAGE.partition("## A production line")[2]
    shown = re.search(r"^handfast board flash (.*)\nhandfast provision (.*)$", line, re.MULTILINE)
    assert shown
    flashed = flash.make_context("flash", shlex.split(shown[1])).params
    provisioned = provision.make_context("provision", shlex.split(shown[2])).params
    assert load_board(flashed["name"]).kind == "hardware"
    assert provisioned["names"] == (flashed["port"],)


def test_linked_files_are_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (FILE.parent / link).exists(), link
