"""The README says what is so, and the documents lead to files that are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from handfast.cli import handfast
from handfast.lab.demo.intruders.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("handfast ")
]


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_exists(line: str) -> None:
    command: click.Command = handfast
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    command.make_context("handfast", words)  # raises for what it does not know


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", "\n".join(BLOCKS), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def shown_checks() -> set[str]:
    """Names in the table of the demo's output; a name may go on in the rows below."""
    names: list[str] = []
    for mark, name in re.findall(r"^│ (.) │ ([^│]*)│", README, re.MULTILINE):
        if mark == "✓":
            names.append(name.strip())
        elif names:
            names[-1] = f"{names[-1]} {name.strip()}".strip()
    return set(names)


def test_the_demo_output_shows_every_check_that_the_demo_makes() -> None:
    demo = ROOT / "host/handfast/lab/demo"
    source = "\n".join(path.read_text() for path in sorted(demo.rglob("*.py")))
    names = set(re.findall(r'report\.check\(\s*"([^"]+)"\s*\)', source))
    names |= {f"intruders: {kind.promise}" for kind in KINDS}
    assert len(names) >= 30
    assert names - shown_checks() == set()


def links(document: Path) -> set[Path]:
    found = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    return {(document.parent / link).resolve() for link in found}


@pytest.mark.parametrize(
    "document",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_linked_files_are_there(document: Path) -> None:
    assert [link for link in links(document) if not link.exists()] == []


def test_every_document_is_in_the_index() -> None:
    documents = set((ROOT / "docs").rglob("*.md"))
    index = ROOT / "docs" / "README.md"
    assert documents - {index} - links(index) == set()
