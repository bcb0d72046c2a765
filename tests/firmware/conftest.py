"""The device library's pure modules run on CPython too: `import mtls` finds firmware/mtls.

With HANDFAST_LIBRARY_ON=<a board of device_interpreter.BOARDS> it finds the library as that board's
MicroPython runs it (test_pure_modules_on_boards.py).
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from handfast.boards.simulator import SimulatedBoard
from handfast.resources import firmware_dir

sys.path.insert(0, str(Path(__file__).parent / "micropython_model"))
sys.path.insert(0, str(firmware_dir()))

from device_interpreter import BOARDS, program, run_script
from library_on_board import BoardLibrary

LIBRARY_ON = os.environ.get("HANDFAST_LIBRARY_ON")
_library = BoardLibrary(program(LIBRARY_ON)) if LIBRARY_ON else None
if _library:
    sys.meta_path.insert(0, _library)
    # A board answers some thousand questions a second.
    settings.register_profile("board", parent=settings(), max_examples=25)
    settings.load_profile("board")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_cpython: asks what MicroPython has no answer to")


def pytest_unconfigure() -> None:
    if _library:
        _library.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With the library on one board: leave out what asks each board anyway, or CPython alone."""
    if not _library:
        return
    others = {
        item
        for item in items
        if {"micropython", "run_device"} & set(item.fixturenames)
        or item.get_closest_marker("only_cpython")
    }
    config.hook.pytest_deselected(items=list(others))
    items[:] = [item for item in items if item not in others]


_asking: Counter[str] = Counter()  # tests that asked the board something, by their file


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    before = _library.asked if _library else 0
    yield
    if _library and _library.asked > before:
        _asking[item.path.name] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, count in sorted(_asking.items()):
        terminalreporter.write_line(f"{name} asked {LIBRARY_ON}: {count}")


@pytest.fixture(scope="session", params=BOARDS)
def micropython(request: pytest.FixtureRequest) -> Path:
    """A simulated board's MicroPython, as a plain interpreter."""
    return program(request.param)


@pytest.fixture(params=BOARDS.values(), ids=BOARDS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimulatedBoard]:
    """A simulated board with its flash and its serial line, switched off."""
    profile, version = request.param
    with SimulatedBoard(profile, directory=tmp_path / "board", micropython=version) as board:
        yield board


@pytest.fixture(params=["cpython", *BOARDS])
def run_device(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script of tests/firmware/device everywhere, its arguments relative to tmp_path."""
    interpreter = None if request.param == "cpython" else program(request.param)
    return partial(run_script, interpreter, cwd=tmp_path)


@pytest.fixture
def device_modules() -> MutableMapping[str, Any]:
    """`sys.modules` of the interpreter that runs the library."""
    return _library.module("device_modules") if _library else sys.modules
