"""`make fuzz`: coverage-guided fuzzing of the device's parsers, for a fixed time each.

Needs the extra `fuzz` (atheris). What is raised but not an MTLSError ends the run; the input is
left in the work folder. With --keep the smallest inputs that reach something new join the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.seeds import CORPUS

_ROOT = Path(__file__).parents[2]
_PARSERS = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
# As long as what libFuzzer may make: a right time-stamp with its chain has 2161 octets, and what
# comes from it by a change or two must not be let go for its length.
_LONGEST = 4096
_LIMITS = (f"-max_len={_LONGEST}", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1")
_KEPT = 20  # inputs a parser, at most
Target = Callable[[bytes], object]


def target_of(parser: str) -> Target:
    """Return what the fuzzer calls; an error that is not the library's comes through."""
    from fuzz_targets import accepts, targets

    target = targets((CORPUS / "anchor.der").read_bytes())[parser]
    return lambda data: accepts(target, data)


def fuzz_here(parser: str, arguments: list[str]) -> None:
    """Hand this process over to libFuzzer, which does not give it back."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["mtls"]):
        target = target_of(parser)
    atheris.Setup([parser, *arguments], lambda data: target(data) and None)
    atheris.Fuzz()


def libfuzzer(parser: str, *arguments: str | Path) -> int:
    """Run libFuzzer on a parser in a process of its own; return its exit status."""
    command = [sys.executable, "-m", "tests.fuzz", "--here", parser, *map(str, arguments)]
    return subprocess.run(command, cwd=_ROOT, check=False).returncode


def reached(target: Target, data: bytes) -> set[tuple[str, int]]:
    """Return the lines of the library that an input reaches."""
    lines = set()

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        if "/mtls/" not in frame.f_code.co_filename:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return lines


def keep(parser: str, found: Path) -> int:
    """Copy the smallest of what reaches more than the corpus does; return how many."""
    target = target_of(parser)
    corpus = list((CORPUS / parser).iterdir())
    known = set().union(*(reached(target, path.read_bytes()) for path in corpus))
    kept = 0
    for path in sorted(found.iterdir(), key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        if len(data) > _LONGEST or len(corpus) + kept >= _KEPT:
            break
        if new := reached(target, data) - known:
            known |= new
            kept += 1
            (CORPUS / parser / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return kept


def main() -> int:
    """Fuzz each parser in turn; return 1 if one of them failed."""
    options = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    options.add_argument("parsers", nargs="*", default=_PARSERS, help="all of them by default")
    options.add_argument("--seconds", type=int, default=15, help="for each parser")
    options.add_argument("--keep", action="store_true", help="add to tests/corpus")
    chosen = options.parse_args()
    work = Path(tempfile.mkdtemp(prefix="handfast-fuzz-"))
    failed = []
    for parser in chosen.parsers:
        found = work / parser
        found.mkdir()
        prefix = f"-artifact_prefix={work}/{parser}-"
        limit = f"-max_total_time={chosen.seconds}"
        if libfuzzer(parser, *_LIMITS, limit, prefix, found, CORPUS / parser):
            failed.append(parser)
        elif chosen.keep:
            print(f"{parser}: {keep(parser, found)} inputs kept")
    if failed:
        print(f"failed: {', '.join(failed)}; the inputs are in {work}", file=sys.stderr)
        return 1
    shutil.rmtree(work)
    print(f"{len(chosen.parsers)} parsers, {chosen.seconds} s each: nothing but MTLSError")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
