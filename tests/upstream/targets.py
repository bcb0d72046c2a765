"""Which boards the tests run on, and as which MicroPython version each counts."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.definition import list_boards, load_board
from handfast.errors import UsageError
from handfast.resources import boards_dir

# Set by the driver: what the run is about, as NAME=VERSION words. Without it a run of pytest takes
# the small part, on the simulated boards.
VARIABLE = "HANDFAST_UPSTREAM"
_OTHER_VERSION = re.compile(r"-v\d+-\d+-\d+$")


@dataclass(frozen=True, slots=True)
class Target:
    """A board by the name that ``--handfast-board`` takes, and its MicroPython version."""

    board: str
    version: str

    @property
    def listed_as(self) -> str:
        """The name that expected.toml knows it by."""
        return _OTHER_VERSION.sub("", self.board)

    def __str__(self) -> str:
        return f"{self.board}={self.version}"


def parse_target(word: str) -> Target:
    """Read ``NAME`` or ``NAME=VERSION``; a board.toml says the version where it is left out.

    Raises:
        UsageError: no board.toml has the name, and no version is given.
    """
    name, _, version = word.partition("=")
    if version:
        return Target(name, version)
    firmware = load_board(name).firmware
    if firmware is None:
        raise UsageError(f"{name} has no [firmware]: write {name}=VERSION")
    return Target(name, firmware.micropython)


def simulated_targets() -> list[Target]:
    """Return the simulated boards, each with its own version."""
    return [parse_target(name) for name in list_boards(kind="simulated")]


def asked_for() -> list[Target] | None:
    """Return what the driver asks for; None where no driver does."""
    words = os.environ.get(VARIABLE)
    return None if words is None else [parse_target(word) for word in words.split()]


def pinned_versions() -> list[str]:
    """Return the MicroPython versions whose source is pinned."""
    text = (boards_dir() / "sources.toml").read_text(encoding="utf-8")
    return [s["version"] for s in tomllib.loads(text)["source"] if s["name"] == "micropython"]


def other_versions(folder: Path, versions: Sequence[str]) -> list[Target]:
    """Write simulated boards of other versions into ``folder``, for ``HANDFAST_BOARDS``."""
    targets = []
    for own in simulated_targets():
        for version in versions:
            if version == own.version:
                continue
            name = f"{own.board}-v{version.replace('.', '-')}"
            shutil.copytree(load_board(own.board).folder, folder / name)
            file = folder / name / "board.toml"
            text = file.read_text(encoding="utf-8")
            text = text.replace(f'"{own.board}"', f'"{name}"')
            file.write_text(text.replace(f'"{own.version}"', f'"{version}"'), encoding="utf-8")
            targets.append(Target(name, version))
    return targets
