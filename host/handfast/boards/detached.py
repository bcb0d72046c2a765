"""Virtual boards that go on running when the command that started them has ended.

Each is a process of its own that owns its serial line, or the bench of an emulated one; a file in
the user's state folder says which. A file whose process is gone is removed by whoever sees it.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from handfast.boards.builder import build_simulator
from handfast.boards.definition import load_board
from handfast.boards.detached_bench import bench_command
from handfast.boards.lifeline_board import announced_line
from handfast.boards.simulator import board_arguments, simulated_board
from handfast.boards.sources import Progress, locked, state_folder
from handfast.boards.virtual import build_virtual_board
from handfast.boards.virtual_board import Entropy, last_line, unique_id_of
from handfast.errors import BoardProblem, UsageError
from handfast.files import write_atomically

_SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_STOP_S = 5


@dataclass(frozen=True, slots=True)
class DetachedBoard:
    """A running simulated board: ``started_ticks`` tells its process from a later one's number."""

    name: str
    profile: str
    serial_url: str
    flash_image: str
    pid: int
    started_ticks: int

    @property
    def is_running(self) -> bool:
        """Whether the process is still the one that was started."""
        return _started_ticks(self.pid) == self.started_ticks


def state_dir() -> Path:
    """Return the folder of the detached boards, made if it is not there."""
    return state_folder("sim")


def list_detached() -> list[DetachedBoard]:
    """Return the boards that run, by name."""
    with locked(state_dir()):
        return _running()


def start_detached(
    profile: str,
    *,
    name: str | None = None,
    flash_image: Path | None = None,
    micropython: str | None = None,
    entropy: Entropy = "host",
    progress: Progress = lambda _: None,
) -> DetachedBoard:
    """Start a board that outlives this process.

    Args:
        profile: the board's definition, such as ``sim-pico-w``.
        name: a name for it; the profile's by default, with a number when that is taken.
        flash_image: its flash chip; kept in the state folder by default, so that a board of the
            same name finds its files again.
        micropython: the MicroPython version; the profile's own by default.
        entropy: what its random source gives, power cycles included.
        progress: is told what goes on while the board is built.

    Raises:
        UsageError: no such profile, or the name is not usable or taken.
        BoardProblem: it could not start, for instance because another board has the flash image.
    """
    definition = load_board(profile)
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not usable as a name: letters, digits, dot, dash, underline")
    if definition.emulator is not None:
        if micropython is not None:
            raise UsageError(f"{profile} has one version of MicroPython: leave it out")
        build_virtual_board(profile, progress=progress)
        program = None
    else:
        simulated_board(profile)
        program = build_simulator(profile, micropython=micropython, progress=progress)
    folder = state_dir()
    with locked(folder):
        taken = {board.name for board in _running()}
        if name in taken:
            raise UsageError(f"a board called {name} is running; stop it, or choose another name")
        name = name or _free_name(profile, taken)
        image = (flash_image or folder / f"{name}.img").absolute()
        log = folder / f"{name}.log"
        if program is None:
            process = _spawn(bench_command(profile, name, image, entropy), log, dict(os.environ))
        else:
            arguments = board_arguments(
                definition,
                flash_image=image,
                unique_id=unique_id_of(definition, name),
                entropy=entropy,
            )
            process = _spawn([str(program), *arguments], log, {})
        try:
            if not (url := announced_line(process)):
                raise BoardProblem(f"the board did not start: {last_line(log)}")
            board = DetachedBoard(
                name=name,
                profile=profile,
                serial_url=url,
                flash_image=str(image),
                pid=process.pid,
                started_ticks=_started_ticks(process.pid),
            )
            content = json.dumps({"schema": _SCHEMA, **asdict(board)}, indent=2)
            write_atomically(_record(name), content.encode())
        except BaseException:  # Ctrl-C too: without a record nobody could stop it
            process.kill()
            process.wait()
            raise
    return board


def find_detached(name: str) -> DetachedBoard:
    """Return the running board of that name.

    Raises:
        BoardProblem: none runs.
    """
    boards = {board.name: board for board in list_detached()}
    if name not in boards:
        running = ", ".join(boards) or "none"
        raise BoardProblem(f"no simulated board called {name} is running (running: {running})")
    return boards[name]


def stop_detached(board: DetachedBoard) -> None:
    """End a board; its flash image stays.

    Raises:
        BoardProblem: it did not end.
    """
    with locked(state_dir()):
        _end(board)
        _record(board.name).unlink(missing_ok=True)


def power_cycle_detached(board: DetachedBoard) -> None:
    """Switch a board off and on again; its serial line stays."""
    if not board.is_running:
        raise BoardProblem(f"the simulated board {board.name} is no longer running")
    os.kill(board.pid, signal.SIGUSR1)


def _record(name: str) -> Path:
    return state_dir() / f"{name}.json"


def _free_name(profile: str, taken: set[str]) -> str:
    if profile not in taken:
        return profile
    return next(name for n in range(2, 10_000) if (name := f"{profile}-{n}") not in taken)


def _running() -> list[DetachedBoard]:
    """Read the records; forget those whose board is gone, or that cannot be read."""
    boards = []
    for file in sorted(state_dir().glob("*.json")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.pop("schema") != _SCHEMA:
                continue
            board = DetachedBoard(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            file.unlink(missing_ok=True)
            continue
        if board.is_running:
            boards.append(board)
        else:
            file.unlink(missing_ok=True)
    return boards


def _spawn(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env=environment,
            start_new_session=True,
        )


def _started_ticks(pid: int) -> int:
    """Return when the process started, in clock ticks since boot (proc(5)); -1: no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    # The second field is the program's name in brackets, which may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    return -1 if state == "Z" else int(fields[18])


def _end(board: DetachedBoard) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            handle = os.pidfd_open(board.pid)
        except OSError:
            return
        try:
            if not board.is_running:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, sent)
            if select.select([handle], [], [], _STOP_S)[0]:
                return
        finally:
            os.close(handle)
    raise BoardProblem(f"the simulated board {board.name} (process {board.pid}) does not end")
