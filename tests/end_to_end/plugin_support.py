"""Projects as users of the plugin have them, and runs of pytest in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_S = 240

# A user's own application: it keeps what it is to report until the gateway has it.
APP = '''
import json, os, time

_QUEUE = "/queue.json"

def report(value):
    """Keep a value on flash; the running application sends it."""
    waiting = pending() + [value]
    with open(_QUEUE + ".new", "w") as file:
        json.dump(waiting, file)
    os.rename(_QUEUE + ".new", _QUEUE)
    return len(waiting)

def pending():
    try:
        with open(_QUEUE) as file:
            return json.load(file)
    except OSError:
        return []

def fail(value):
    raise ValueError(value)
'''


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest printed and ended with; ``counts`` as its last line has them."""

    text: str
    status: int

    def counted(self, what: str) -> int:
        last = self.text.strip().rpartition("\n")[2]
        found = re.search(rf"(\d+) {what}\b", last)
        return int(found[1]) if found else 0


def entry_point(folder: Path) -> Path:
    """A folder for sys.path in which the project's entry points are, as once installed."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / "handfast_entry_point-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: handfast-entry-point\nVersion: 0\n"
    )
    lines = (
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items())
        for group, names in table.items()
    )
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


class Project:
    """A folder with tests of a user's, run by pytest in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        (self.folder / "pytest.ini").write_text("[pytest]\n")
        self.write("device/app.py", APP)
        self._entry_point = entry_point(folder / "site")

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def environment(self) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "HANDFAST_WIFI"))
        }
        return kept | {"PYTHONPATH": f"{ROOT / 'host'}:{self._entry_point}"}

    def run(self, *options: str, env: dict[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
            cwd=self.folder,
            env=self.environment() | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        return Outcome(done.stdout, done.returncode)

    def junit(self, name: str = "junit.xml") -> ElementTree.Element:
        return ElementTree.parse(self.folder / name).getroot()  # noqa: S314 - pytest wrote it
