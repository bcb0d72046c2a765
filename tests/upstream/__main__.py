"""`make test-upstream`: all of MicroPython's own TLS, asyncio and socket tests, on every board.

Simulated boards in every pinned version of MicroPython, emulated ones where they can run. One board
is tried with `make test-upstream ARGS="--board NAME"`, and one test with `-k` behind it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from handfast.boards.definition import FOLDERS_VARIABLE, list_boards
from handfast.boards.virtual import build_virtual_board, virtual_boards, why_missing
from handfast.errors import HandfastError
from tests.upstream.targets import (
    VARIABLE,
    Target,
    other_versions,
    parse_target,
    pinned_versions,
    simulated_targets,
)
from tests.upstream.tree import UpstreamTree

_TESTS = Path(__file__).with_name("test_upstream.py")


def say(text: str) -> None:
    """Tell people what goes on."""
    print(f"test-upstream: {text}", file=sys.stderr)


def every_target(folder: Path) -> list[Target]:
    """Return all boards that can be had here; those that cannot are named with the reason."""
    targets = [*simulated_targets(), *other_versions(folder, pinned_versions())]
    return targets + list(_emulated())


def _emulated() -> Iterator[Target]:
    for name in list_boards(kind="emulated"):
        if reason := why_missing(name):
            say(f"{name} is left out: {reason}")
        else:
            yield parse_target(name)


def prepare(targets: Sequence[Target]) -> None:
    """Build the boards and unpack the tests, so that no test waits for a compiler."""
    for version in sorted({target.version for target in targets}):
        tests = len(UpstreamTree.unpacked(version).tests())
        say(f"MicroPython {version}: {tests} tests, less those that expected.toml has as not-run")
    for target in targets:
        if target.board in virtual_boards():
            build_virtual_board(target.board, progress=say)


def main(arguments: Sequence[str]) -> int:
    """Run the tests; returns pytest's exit code, or that of the error."""
    parser = argparse.ArgumentParser(prog="make test-upstream", description=__doc__)
    parser.add_argument(
        "--board", action="append", metavar="NAME[=VERSION]", help="a board; all by default"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    options, for_pytest = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="handfast-upstream-") as folder:
        own = [folder, *filter(None, [os.environ.get(FOLDERS_VARIABLE)])]
        os.environ[FOLDERS_VARIABLE] = os.pathsep.join(own)
        try:
            targets = every_target(Path(folder))
            if options.board:
                targets = [_chosen(word, targets) for word in options.board]
            prepare(targets)
        except HandfastError as error:
            say(str(error))
            return error.exit_code
        command = [sys.executable, "-m", "pytest", "-n", str(options.workers), str(_TESTS)]
        variables = os.environ | {VARIABLE: " ".join(map(str, targets))}
        try:
            return subprocess.run([*command, *for_pytest], env=variables, check=False).returncode
        except KeyboardInterrupt:  # pytest had it too, and has taken its boards down
            return 130


def _chosen(word: str, targets: Sequence[Target]) -> Target:
    """Return the target that is meant, also by a simulated board's name and another version."""
    name, _, version = word.partition("=")
    for target in targets:
        if target.listed_as == name and target.version == (version or target.version):
            return target
    return parse_target(word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
