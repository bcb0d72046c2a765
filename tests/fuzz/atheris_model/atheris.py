"""A model of atheris for machines without it: corpus and random inputs, guided by nothing.

What is called, and how a run ends, is as atheris's README and libFuzzer's documentation say:
options as ``-name=value``, then folders of inputs; status 0 when the time is over, 77 and the input
in a file when the callback raises.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_FAILED = 77
_state: dict[str, object] = {}


@contextmanager
def instrument_imports(include: Sequence[str] = ()) -> Iterator[None]:
    """Import as ever."""
    yield


def Setup(argv: Sequence[str], callback: Callable[[bytes], object]) -> None:
    """Note what is to be run."""
    _state.update(argv=list(argv[1:]), callback=callback)


def Fuzz() -> None:
    """Run until the time is over; does not return."""
    argv: list[str] = _state["argv"]  # type: ignore[assignment]
    callback: Callable[[bytes], object] = _state["callback"]  # type: ignore[assignment]
    options = dict(word[1:].split("=", 1) for word in argv if word.startswith("-"))
    folders = [Path(word) for word in argv if not word.startswith("-")]
    corpus = [path.read_bytes() for folder in folders for path in sorted(folder.iterdir())]
    give_up = time.monotonic() + float(options["max_total_time"])
    drawn = random.Random(0)  # noqa: S311 - the same inputs each time
    inputs = iter(corpus)
    while time.monotonic() < give_up:
        data = next(inputs, None)
        if data is None:
            data = drawn.randbytes(drawn.randrange(int(options["max_len"])))
        try:
            callback(data)
        except Exception:
            name = options["artifact_prefix"] + "crash-" + hashlib.sha1(data).hexdigest()  # noqa: S324
            Path(name).write_bytes(data)
            sys.exit(_FAILED)
    sys.exit(0)
