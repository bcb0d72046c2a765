"""The boards of one process of a run: leased for a test, given back, put in quarantine."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from handfast.errors import BoardProblem, HandfastError
from handfast.lab.parallel import in_parallel
from handfast.lab.pytest_plugin.board import Board
from handfast.lab.pytest_plugin.leases import Lease, take
from handfast.lab.pytest_plugin.power import Bench, SimulatedBench, WiredBench
from handfast.lab.pytest_plugin.recovery import recover
from handfast.lab.pytest_plugin.selection import Candidate, fitting, why_none

_QUARANTINED = "it is in quarantine until this run ends"
_PATIENCE_S = 600.0  # for boards that others use
_RETRY_S = (0.05, 0.3)
_MOST_SIMULATED = 1000


class NoSuchBoard(HandfastError):
    """No board of this run can do what a test asks for."""


@dataclass(slots=True)
class _Slot:
    """One board that this process has used; ``lease`` while it holds it."""

    candidate: Candidate
    name: str
    board: Board | None = None
    lease: Lease | None = None
    busy: bool = False
    dead: str = ""


class Pool:
    """Leases boards.

    A wired board is let go of after each test, for other processes; a simulated one is kept, since
    there are as many as are wanted. A board in quarantine stays leased to the end of the run, so
    that nobody else runs into it.

    Args:
        boards: what may be leased.
        leases: the folder of the locks.
        folder: where simulated boards keep their flash.
        files: the project's own files for the board.
        at_once: how many boards are made ready at once.
    """

    def __init__(
        self,
        boards: Sequence[Candidate],
        leases: Path,
        folder: Path,
        files: Path | None,
        at_once: int,
    ) -> None:
        self._boards = boards
        self._leases = leases
        self._folder = folder
        self._files = files
        self._at_once = at_once
        self._slots: list[_Slot] = []
        self._buried: list[Board] = []

    @property
    def quarantined(self) -> dict[str, str]:
        """Name → what was tried, of the boards that could not be brought back."""
        return {slot.name: slot.dead for slot in self._slots if slot.dead}

    def lease(self, wanted: Sequence[str], number: int = 1) -> list[Board]:
        """Return boards that can do what is wanted, all of them or none.

        Raises:
            NoSuchBoard: no board can.
            BoardProblem: those that could are dead, or in use by others for too long.
        """
        able = fitting(self._boards, wanted)
        if not able:
            raise NoSuchBoard(why_none(self._boards, wanted))
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            taken = self._try(able, number)
            if len(taken) == number and self._prepare(taken):
                return [slot.board for slot in taken if slot.board is not None]
            for slot in taken:
                self._let_go(slot)
            alive = [slot for slot in able if slot.profile or slot.name not in self.quarantined]
            if len(alive) < number and not any(candidate.profile for candidate in alive):
                raise BoardProblem(
                    f"{number} boards are wanted and {len(alive)} are left" + self._dead_ones()
                )
            if time.monotonic() > give_up:
                raise BoardProblem(f"others have used the boards for {_PATIENCE_S:.0f} s")
            # By chance, so that two who wait for each other's boards do not do so for ever.
            time.sleep(random.uniform(*_RETRY_S))  # noqa: S311

    def give_back(self, board: Board) -> None:
        """Take a board back from a test; one that cannot be brought to a prompt is quarantined."""
        slot = next(slot for slot in self._slots if slot.board is board)
        alive, tried = recover(board)
        board.notes += tried
        if alive:
            board.rest()
            self._let_go(slot)
        else:
            self._quarantine(slot, tried)

    def close(self) -> None:
        """Let go of everything."""
        for slot in self._slots:
            if slot.board is not None:
                slot.board.close()
            if slot.lease is not None:
                slot.lease.release()

    def last_buried(self) -> list[Board]:
        """Return the boards that went into quarantine before a test had them, each once."""
        buried, self._buried = self._buried, []
        return buried

    def _prepare(self, slots: Sequence[_Slot]) -> bool:
        """Make the boards ready; False if one of them is dead."""
        try:
            return all(in_parallel(self._is_ready, slots, at_once=self._at_once))
        except BaseException:
            for slot in slots:
                self._let_go(slot)
            raise

    def _is_ready(self, slot: _Slot) -> bool:
        if slot.board is None:
            slot.board = Board(
                slot.name, slot.candidate.capabilities, self._bench(slot), self._files
            )
        board = slot.board
        if slot.candidate.profile:
            board.begin()  # on a blank chip
            return True
        alive, tried = recover(board)
        if alive:
            board.begin()
        board.notes += tried
        if not alive:
            self._quarantine(slot, tried)
            self._buried.append(board)
        return alive

    def _bench(self, slot: _Slot) -> Bench:
        chosen = slot.candidate
        if chosen.profile:
            return SimulatedBench(chosen.profile, self._folder / slot.name, slot.name)
        return WiredBench(
            chosen.url, reset=chosen.reset, power_off=chosen.power_off, power_on=chosen.power_on
        )

    def _try(self, able: Sequence[Candidate], number: int) -> list[_Slot]:
        # No further than the last that is wanted: the next would be leased for nothing.
        taken = list(islice((slot for one in able for slot in self._free(one)), number))
        for slot in taken:
            slot.busy = True
        return taken

    def _free(self, candidate: Candidate) -> Iterator[_Slot]:
        """Yield slots of a candidate that are ours to use; new ones are leased."""
        for slot in self._slots:
            if slot.candidate is candidate and not (slot.busy or slot.dead):
                slot.lease = slot.lease or take(self._leases, candidate.url or slot.name)
                if slot.lease is not None:
                    yield slot
        known = {slot.name for slot in self._slots}
        names = (
            [f"{candidate.name}-{number}" for number in range(1, _MOST_SIMULATED)]
            if candidate.profile
            else [candidate.name]
        )
        for name in names:
            if name not in known and (lease := take(self._leases, candidate.url or name)):
                slot = _Slot(candidate, name, lease=lease)
                self._slots.append(slot)
                yield slot

    def _let_go(self, slot: _Slot) -> None:
        slot.busy = False
        if not (slot.candidate.profile or slot.dead) and slot.lease is not None:
            slot.lease.release()
            slot.lease = None

    def _quarantine(self, slot: _Slot, tried: Sequence[str]) -> None:
        slot.busy = False
        slot.dead = ", ".join(tried)
        if slot.board is not None:
            slot.board.notes.append(_QUARANTINED)
            slot.board.rest()

    def _dead_ones(self) -> str:
        return "".join(
            f"; {name} is in quarantine: {why}" for name, why in self.quarantined.items()
        )
