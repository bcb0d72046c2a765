"""What the plugin was asked for: its options, its settings in an ini file, its markers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from handfast.lab.pytest_plugin.labgrid import LABGRID, is_asked_for

MARKERS = (
    "board(capabilities=[...]): what the test's board must be able to do, such as power_cut; "
    "where no board has it the test is skipped",
    "boards(n): how many boards the fixture `boards` gives",
    "gateway(**options): a gateway of the test's own, started with these GatewayOptions",
)
DEFAULT_BOARD = "sim"
BOARD = "handfast_board"
PARALLEL = "handfast_parallel"
REPEAT = "handfast_repeat"
REPORT = "handfast_report"
HOST = "handfast_host"
BENCH = "handfast_bench"
WIFI_PASSWORD = "HANDFAST_WIFI_PASSWORD"  # noqa: S105 - the variable's name
COVERAGE = "handfast_coverage"
_FLASH = "handfast_flash"
_FIRMWARE = "handfast_firmware"
_FILES = "handfast_files"
_DEFAULT_FILES = "device"
_DEFAULT_BENCH = "handfast-bench.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run was asked for.

    Attributes:
        board: ``sim``, ``auto``, ``emulated``, ``hardware``, ``labgrid``, a board's
            name or a serial URL.
        parallel: how many boards are provisioned at once.
        repeat: how often each test runs.
        files: the folder of the project's own files for the board; it need not be there.
        bench: the file that describes the boards on the desk; it need not be there.
        host: this machine's address as boards reach it; "" where it is to be found out.
        flash: put firmware on the boards of the desk before their first test.
        firmware: the image for that; None is each board's own.
        coverage: note the lines that simulated boards run, for coverage.py.
        root: the folder whose sources are measured.
    """

    board: str
    parallel: int
    repeat: int
    files: Path
    bench: Path
    host: str
    flash: bool
    firmware: Path | None
    coverage: bool
    root: Path


def add_options(parser: pytest.Parser) -> None:
    """Add the options and the ini settings."""
    group = parser.getgroup("handfast", "boards under test")
    group.addoption(
        "--handfast-board",
        dest=BOARD,
        metavar="WHICH",
        help="sim (default), auto (hardware where there is some), emulated, hardware, labgrid "
        "(default with --lg-env), a board's name, or a serial port's path or URL",
    )
    group.addoption(
        "--handfast-parallel",
        dest=PARALLEL,
        type=_positive,
        default=4,
        metavar="N",
        help="how many boards are provisioned at once (4)",
    )
    group.addoption(
        "--handfast-flash",
        dest=_FLASH,
        action="store_true",
        help="flash each board on the desk before its first test, as its board.toml says",
    )
    group.addoption(
        "--handfast-firmware",
        dest=_FIRMWARE,
        type=Path,
        metavar="FILE",
        help="the image that --handfast-flash writes, instead of each board's own",
    )
    group.addoption(
        "--handfast-repeat",
        dest=REPEAT,
        type=_positive,
        default=1,
        metavar="N",
        help="run every test N times and say which of them flake, and on which board",
    )
    group.addoption(
        "--handfast-report",
        dest=REPORT,
        type=Path,
        metavar="FILE",
        help="write a report in one HTML file, with each test's console and plots",
    )
    group.addoption(
        "--handfast-bench",
        dest=BENCH,
        type=Path,
        metavar="FILE",
        help=f"the boards on the desk ({_DEFAULT_BENCH} beside the ini file)",
    )
    group.addoption(
        "--handfast-host",
        dest=HOST,
        default="",
        metavar="ADDRESS",
        help="this machine's address as boards reach it",
    )
    group.addoption(
        "--handfast-coverage",
        dest=COVERAGE,
        action="store_true",
        help="note the lines of Python that simulated boards run, in coverage.py's data",
    )
    parser.addini(
        _FILES, f"folder of your own files for the board ({_DEFAULT_FILES})", default=_DEFAULT_FILES
    )


def read_settings(config: pytest.Config) -> Settings:
    """Return what the run was asked for.

    Raises:
        pytest.UsageError: something was asked for that is not there.
    """
    firmware: Path | None = config.getoption(_FIRMWARE)
    if firmware is not None and not config.getoption(_FLASH):
        raise pytest.UsageError("--handfast-firmware is the image for --handfast-flash: give both")
    if firmware is not None and not firmware.is_file():
        raise pytest.UsageError(f"--handfast-firmware: there is no file {firmware}")
    return Settings(
        board=config.getoption(BOARD) or (LABGRID if is_asked_for(config) else DEFAULT_BOARD),
        parallel=config.getoption(PARALLEL),
        repeat=config.getoption(REPEAT),
        files=config.rootpath / str(config.getini(_FILES)),
        bench=config.getoption(BENCH) or config.rootpath / _DEFAULT_BENCH,
        host=config.getoption(HOST),
        flash=config.getoption(_FLASH),
        firmware=None if firmware is None else firmware.absolute(),
        coverage=config.getoption(COVERAGE),
        root=config.rootpath,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
