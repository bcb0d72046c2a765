"""The pytest plugin: boards, gateways and networks as fixtures.

Importing it imports nothing heavy: it is loaded by every pytest run on a machine that has
handfast, most of which test something else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handfast.lab.pytest_plugin.labgrid import LABGRID, labgrid_boards
from handfast.lab.pytest_plugin.reporting import BOARDS, Collector, Recorder
from handfast.lab.pytest_plugin.secret import Secrets
from handfast.lab.pytest_plugin.settings import (
    DEFAULT_BOARD,
    MARKERS,
    REPORT,
    WIFI_PASSWORD,
    Settings,
    add_options,
    read_settings,
)

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.board import Board
    from handfast.lab.pytest_plugin.boards import Boards
    from handfast.lab.pytest_plugin.clock import BoardClock
    from handfast.lab.pytest_plugin.gateway import Gateway
    from handfast.lab.pytest_plugin.lab import Lab, Pki
    from handfast.lab.pytest_plugin.network import Network
    from handfast.lab.pytest_plugin.selection import Candidate

_SETTINGS = pytest.StashKey[Settings]()
_SECRETS = pytest.StashKey[Secrets]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Add the markers and read the options."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    asked = config.stash[_SETTINGS] = read_settings(config)
    if asked.coverage:
        _require_coverage()
    if asked.board not in (DEFAULT_BOARD, LABGRID):
        _boards(config)
    secrets = config.stash[_SECRETS] = Secrets()
    secrets.add(os.environ.get(WIFI_PASSWORD, ""))
    config.pluginmanager.register(Recorder(secrets, asked.files), "handfast-recorder")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config.getoption(REPORT)), "handfast-collector")


def _require_coverage() -> None:
    from handfast.errors import HandfastError
    from handfast.lab.pytest_plugin.device_coverage import require_coverage

    try:
        require_coverage()
    except HandfastError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_sessionstart(session: pytest.Session) -> None:
    """Read the labgrid environment, which labgrid's own plugin has by now."""
    if session.config.stash[_SETTINGS].board == LABGRID:
        _boards(session.config)


def _boards(config: pytest.Config) -> Sequence[Candidate]:
    """Return what the run may use; end it at once where what was asked for is not there."""
    from handfast.errors import UsageError
    from handfast.lab.pytest_plugin.selection import candidates

    asked = config.stash[_SETTINGS]
    if asked.board == LABGRID:
        boards = labgrid_boards(config)
    else:
        try:
            boards = candidates(asked.board, asked.bench)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
    if asked.flash and (away := [board.name for board in boards if board.place is not None]):
        raise pytest.UsageError(
            f"--handfast-flash is for boards on the desk; {', '.join(away)} is behind labgrid, "
            "whose strategy flashes it"
        )
    if asked.coverage and (untraced := [b.name for b in boards if not _is_simulated(b)]):
        raise pytest.UsageError(
            f"--handfast-coverage is for simulated boards: {', '.join(untraced)} cannot note the "
            "lines that it runs"
        )
    return boards


def _is_simulated(candidate: Candidate) -> bool:
    from handfast.boards.definition import load_board

    return bool(candidate.profile) and load_board(candidate.profile).kind == "simulated"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the lines are that the boards have run."""
    if config.stash[_SETTINGS].coverage:
        terminalreporter.line(
            "the lines that boards have run are in coverage.py's data; where it did not measure "
            "this run, `coverage combine` takes them from .coverage.*"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test as often as ``--handfast-repeat`` says."""
    times = metafunc.config.stash[_SETTINGS].repeat
    if times > 1:
        name = "_handfast_repetition"
        metafunc.fixturenames.append(name)
        ids = [f"repeat{number}" for number in range(1, times + 1)]
        metafunc.parametrize(name, range(times), ids=ids, indirect=True)


@pytest.fixture
def _handfast_repetition(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def _run_id(config: pytest.Config) -> str:
    """Return what all processes of this run, and no other, have in common."""
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    return str(worker.get("testrunuid") or uuid.uuid4().hex)


@pytest.fixture(scope="session")
def _handfast_lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    from handfast.lab.pytest_plugin.lab import Lab

    # Not pytest's own folder: the gateway's socket has a path of at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="handfast-"))
    lab = Lab(
        pytestconfig.stash[_SETTINGS],
        folder,
        pytestconfig.stash[_SECRETS],
        lambda: _boards(pytestconfig),
        _run_id(pytestconfig),
    )
    try:
        yield lab
    finally:
        lab.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _leased(request: pytest.FixtureRequest, lab: Lab, number: int) -> Iterator[list[Board]]:
    from handfast.lab.pytest_plugin.pool import NoSuchBoard

    markers = request.node.iter_markers("board")
    wanted = {name for marker in markers for name in marker.kwargs.get("capabilities", ())}
    used = request.node.stash.setdefault(BOARDS, [])
    try:
        leased = lab.pool.lease(sorted(wanted), number)
    except NoSuchBoard as error:
        pytest.skip(str(error))
    finally:
        used += lab.pool.last_buried()
    used += leased
    try:
        yield leased
    finally:
        for one in leased:
            lab.pool.give_back(one)


@pytest.fixture
def board(request: pytest.FixtureRequest, _handfast_lab: Lab) -> Iterator[Board]:
    """A board that can do what the test's marker asks for; blank, if it is simulated."""
    with _leased(request, _handfast_lab, 1) as leased:
        yield leased[0]


@pytest.fixture
def boards(request: pytest.FixtureRequest, _handfast_lab: Lab) -> Iterator[Boards]:
    """As many boards as ``@pytest.mark.boards(n)`` says."""
    from handfast.lab.pytest_plugin.boards import Boards

    marker = request.node.get_closest_marker("boards")
    with _leased(request, _handfast_lab, marker.args[0] if marker else 1) as leased:
        yield Boards(leased, _handfast_lab.settings.parallel)


@pytest.fixture
def gateway(request: pytest.FixtureRequest, _handfast_lab: Lab) -> Iterator[Gateway]:
    """The run's gateway, or one of the test's own where ``@pytest.mark.gateway(...)`` asks so."""
    marker = request.node.get_closest_marker("gateway")
    if marker is None:
        yield _handfast_lab.gateway
        return
    with _handfast_lab.own_gateway(marker.kwargs) as own:
        yield own


@pytest.fixture
def pki(_handfast_lab: Lab) -> Pki:
    """The run's certificate authorities."""
    return _handfast_lab.pki


@pytest.fixture
def network(_handfast_lab: Lab) -> Iterator[Network]:
    """What a test puts between a board and ``gateway``, by ``network.route(gateway)``."""
    from handfast.lab.pytest_plugin.network import Network

    with ExitStack() as stack:
        yield Network(_handfast_lab.host, stack)


@pytest.fixture
def clock(board: Board) -> BoardClock:
    """The clock of ``board``; the test is skipped where it cannot be set."""
    from handfast.lab.pytest_plugin.clock import BoardClock

    if "clock" not in board.capabilities:
        pytest.skip(f"the clock of {board.name} cannot be set (capability clock)")
    return BoardClock(board)
