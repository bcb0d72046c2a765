"""The targets of a labgrid environment as boards that the pytest plugin leases."""

from __future__ import annotations

import atexit
import copy
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labgrid import Environment, Target
from labgrid.binding import BindingError, StateError
from labgrid.driver.exception import ExecutionError
from labgrid.exceptions import InvalidConfigError, NoSupplierFoundError
from labgrid.factory import target_factory
from labgrid.protocol import PowerProtocol, ResetProtocol
from labgrid.resource.remote import RemotePlaceManager

from handfast.boards.definition import load_board
from handfast.errors import BoardProblem, Unreachable, UsageError
from handfast.lab.labgrid.coordinator import Coordinator, NotExported
from handfast.lab.labgrid.micropython import MicroPythonDriver
from handfast.lab.labgrid.simulator import SimulatedBoardDriver
from handfast.lab.pytest_plugin.leases import Lease, take
from handfast.lab.pytest_plugin.power import NATIVE_BACK_S, WiredBench
from handfast.lab.pytest_plugin.selection import SIMULATED_ONLY, Candidate

_LOCAL = "127.0.0.1"
_BACK_WITHIN_S = 30.0  # of an exporter that restarts
_LABGRID_ERRORS = (
    BindingError,
    ExecutionError,
    InvalidConfigError,
    NoSupplierFoundError,
    NotImplementedError,
    OSError,
    StateError,
    subprocess.SubprocessError,
)


def places(environment: Environment) -> list[Candidate]:
    """Return the environment's targets that are boards: those with a ``MicroPythonDriver``.

    No coordinator is asked before a board is leased.

    Raises:
        UsageError: no target is one, or a target cannot be understood.
    """
    targets = environment.config.get_targets() or {}
    boards = {role: config for role, config in targets.items() if _is_board(role, config)}
    if not boards:
        raise UsageError(
            f"{environment.config_file}: no target has a MicroPythonDriver "
            "(and `imports: [handfast.lab.labgrid]` must be there)"
        )
    coordinator = _coordinator(environment)
    found = []
    for role, config in boards.items():
        features = {*environment.get_features(), *config.get("features", ())}
        place = Place(role, environment, coordinator)
        found.append(Candidate(role, _capabilities(config) | features, place=place))
    return found


def _is_board(role: str, config: Any) -> bool:
    if not isinstance(config, dict):
        return False
    try:
        return MicroPythonDriver.__name__ in target_factory.normalize_config(config)[1]
    except InvalidConfigError as error:
        raise UsageError(f"labgrid target {role}: {error.msg}") from error


def _capabilities(config: dict[str, Any]) -> frozenset[str]:
    """Return what the target's drivers can do, and what its board has by definition."""
    found: set[str] = set()
    for name, instances in target_factory.normalize_config(copy.deepcopy(config))[1].items():
        driver = target_factory.drivers.get(name)
        if driver is None:
            raise UsageError(f"labgrid knows no driver {name}: is its module in `imports:`?")
        if issubclass(driver, PowerProtocol):
            found.add("power_cycle")
        if issubclass(driver, ResetProtocol):
            found.add("reset")
        if driver is SimulatedBoardDriver:
            found |= SIMULATED_ONLY
        if driver is MicroPythonDriver:
            for arguments, _ in instances.values():
                if board := arguments.get("board"):
                    found |= load_board(board).capabilities - SIMULATED_ONLY
    return frozenset(found)


def _coordinator(environment: Environment) -> Coordinator:
    address = os.environ.get("LG_COORDINATOR", _LOCAL)
    return Coordinator(environment.config.get_option("coordinator_address", address))


class Place:
    """One target: its labgrid place, taken for a test, and the bench that the place has.

    Args:
        role: the target's name.
        environment: that it is in.
        coordinator: of all the environment's places.
    """

    def __init__(self, role: str, environment: Environment, coordinator: Coordinator) -> None:
        self._role = role
        self._environment = environment
        self._coordinator = coordinator
        self._config = environment.config.get_targets()[role]
        resources, _ = target_factory.normalize_config(copy.deepcopy(self._config))
        names = list(resources.get("RemotePlace", {}))
        if len(names) > 1:
            raise UsageError(f"labgrid target {role} has more than one RemotePlace")
        self.remote: str | None = names[0] if names else None
        self.bench = PlaceBench(self)
        self.target: Target | None = None
        self._missing_since: float | None = None
        self._missing = ""

    @property
    def gone(self) -> str:
        """Why nobody can have it, if that has been so for longer than a restart takes; else ""."""
        if self._missing_since is None or time.monotonic() < self._missing_since + _BACK_WITHIN_S:
            return ""
        return self._missing

    def take(self, leases: Path) -> PlaceLease | None:
        """Take it, against other processes here by a lock and others elsewhere by labgrid.

        A place that its user had acquired before is used, and stays acquired. One that is acquired
        by us, and that a run before this one took and did not give back, is given back.

        Returns:
            None where somebody else has it, or where its exporter is gone.

        Raises:
            Unreachable: the coordinator does not answer.
            BoardProblem: its resources and the target's drivers do not fit.
        """
        lease = take(leases, f"labgrid-{self._coordinator.address}-{self.remote or self._role}")
        if lease is None:
            return None
        taken = PlaceLease(self, lease, self._note(leases))
        try:
            if self.remote is not None and not taken.acquire(self._coordinator, self.remote):
                taken.release()
                return None
            self._make_target()
        except NotExported as error:
            self._missing_since = self._missing_since or time.monotonic()
            self._missing = str(error)
            taken.release()
            return None
        except BaseException:
            taken.release()
            raise
        self._missing_since = None
        return taken

    def require_exported(self) -> None:
        """Refuse what cannot work.

        Raises:
            NotExported: its exporter is gone.
            Unreachable: the coordinator is.
        """
        if self.remote is not None:
            self._coordinator.check(self.remote)

    @property
    def lost(self) -> str:
        """Why it cannot be used though the board may be sound; "" if labgrid knows of nothing."""
        try:
            self.require_exported()
        except (NotExported, Unreachable) as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Hang up on the coordinator, for all places of the environment."""
        self._coordinator.close()

    def _note(self, leases: Path) -> Path:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.remote or self._role)
        return leases / f"labgrid-{name}.acquired"

    def _make_target(self) -> None:
        with board_problems(self._role):
            # A copy: labgrid takes bindings out of what it is given.
            config = copy.deepcopy(self._config)

            def make() -> Target:
                return target_factory.make_target(self._role, config, env=self._environment)

            self.target = make() if self.remote is None else self._coordinator.run(make)
            for driver in (SimulatedBoardDriver, MicroPythonDriver):
                with suppress(NoSupplierFoundError):
                    self.target.get_driver(driver)

    def drop_target(self) -> None:
        """Let go of the drivers, and of what labgrid keeps of a target until the process ends."""
        target, self.target = self.target, None
        if target is None:
            return
        with suppress(*_LABGRID_ERRORS):
            target.cleanup()
        atexit.unregister(target._atexit_cleanup)
        manager = RemotePlaceManager.get()
        for kept in (manager.resources, manager.unmanaged_resources):
            kept[:] = [resource for resource in kept if resource.target is not target]


class PlaceLease:
    """A place that is held, until :meth:`release`.

    Args:
        place: it.
        lock: against other processes of this user on this machine.
        note: the file that says that we acquired the place, and not its user.
    """

    def __init__(self, place: Place, lock: Lease, note: Path) -> None:
        self._place, self._lock, self._note = place, lock, note
        self._coordinator: Coordinator | None = None
        self._name = ""

    def acquire(self, coordinator: Coordinator, name: str) -> bool:
        """Take the place at the coordinator; False where somebody else has it."""
        if not coordinator.is_ours(name):
            self._note.touch()
        if self._note.exists():
            self._coordinator, self._name = coordinator, name  # so it is ours to give back
        return coordinator.acquire(name)

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        self._place.drop_target()
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            # A coordinator that restarts forgets who had what. If it is only out of reach, the
            # note stays, and the next run here gives the place back.
            with suppress(Unreachable):
                coordinator.release(self._name)
                self._note.unlink(missing_ok=True)
        self._lock.release()


class PlaceBench:
    """A place's power and reset, by whichever drivers its target has."""

    keeps_line = True
    pace = 1

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def back_within_s(self) -> float:
        """How long a line may be away by itself; one of an exporter's is gone with the exporter."""
        return NATIVE_BACK_S if self._place.remote is None else 0.0

    @property
    def serial_url(self) -> str:
        """The path or URL of the serial line."""
        with self._drivers() as target:
            return str(target.get_driver(MicroPythonDriver).url)

    def reset(self) -> None:
        """Press the reset button."""
        with self._drivers() as target:
            target.get_driver(ResetProtocol).reset()

    def power_cycle(self, *, rtc: int | None = None) -> None:
        """Take the power away and give it back."""
        with self._drivers() as target:
            if (simulated := _simulated(target)) is not None:
                simulated.bench.power_cycle(rtc=rtc)
            elif rtc is not None:
                raise BoardProblem("nothing can set its clock")
            else:
                target.get_driver(PowerProtocol).cycle()

    def power_off(self) -> None:
        """Take the power away."""
        with self._drivers() as target:
            target.get_driver(PowerProtocol).off()

    @property
    def power_was_cut(self) -> bool:
        """Whether the power failed in the middle of a flash operation."""
        with self._drivers() as target:
            simulated = _simulated(target)
            try:
                return simulated is not None and simulated.bench.power_was_cut
            except BoardProblem:  # its exporter is gone: what waits for the board finds that out
                return False

    def renew(self) -> None:
        """Make it a board that nobody has used: a blank chip, or no files but the library."""
        with self._drivers() as target:
            if (simulated := _simulated(target)) is not None:
                simulated.bench.renew()
                return
        WiredBench(self.serial_url).renew()

    def close(self) -> None:
        """The lease lets go of the place."""

    @contextmanager
    def _drivers(self) -> Iterator[Target]:
        """Give the target's drivers; what they raise is a BoardProblem, and says what labgrid lost.

        Raises:
            BoardProblem: the place is not held, its exporter is gone, or a driver failed.
        """
        target = self._place.target
        if target is None:
            raise BoardProblem("the labgrid place is not acquired")
        try:
            with board_problems(target.name):
                yield target
        except BoardProblem as error:
            if lost := self._place.lost:
                raise BoardProblem(lost) from error
            raise


@contextmanager
def board_problems(name: str) -> Iterator[None]:
    """Turn labgrid's many exceptions into one, with the place's name."""
    try:
        yield
    except _LABGRID_ERRORS as error:
        raise BoardProblem(f"labgrid target {name}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = getattr(error, "msg", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0]


def _simulated(target: Target) -> SimulatedBoardDriver | None:
    found: Iterable[Any] = target.drivers
    return next((driver for driver in found if isinstance(driver, SimulatedBoardDriver)), None)
