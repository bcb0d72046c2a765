"""The boards of one process of a run: leased for a test, given back, put in quarantine."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from handfast.boards.definition import load_board
from handfast.errors import BoardProblem, EnvironmentProblem, HandfastError
from handfast.lab.parallel import in_parallel
from handfast.lab.pytest_plugin.board import Board
from handfast.lab.pytest_plugin.leases import Held, take
from handfast.lab.pytest_plugin.power import Bench, VirtualBench, WiredBench
from handfast.lab.pytest_plugin.recovery import (
    NOT_FLASHED,
    NOT_READY,
    QUARANTINED,
    recover,
)
from handfast.lab.pytest_plugin.selection import Candidate, fitting, why_none
from handfast.lab.pytest_plugin.whereabouts import Whereabouts, is_stable_name

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.flashing import Flasher

_PATIENCE_S = 600.0  # for boards that others use
_RETRY_S = (0.05, 0.3)
_MOST_SIMULATED = 1000
_LAST_WORDS_S = 1.5  # some boot loaders take a second to say why


class NoSuchBoard(HandfastError):
    """No board of this run can do what a test asks for."""


@dataclass(slots=True)
class _Slot:
    """One board that this process has used; ``lease`` while it holds it."""

    candidate: Candidate
    name: str
    board: Board | None = None
    lease: Held | None = None
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
        traced: simulated boards note the lines that they run, below ``folder``.
        flasher: puts firmware on wired boards; None leaves theirs alone.
        run: what names the run, the same in all its processes.
    """

    def __init__(
        self,
        boards: Sequence[Candidate],
        leases: Path,
        folder: Path,
        files: Path | None,
        at_once: int,
        *,
        traced: bool = False,
        flasher: Flasher | None = None,
        run: str = "",
    ) -> None:
        self._boards = boards
        self._leases = leases
        self._folder = folder
        self._files = files
        self._at_once = at_once
        self._traced = traced
        self._flasher = flasher
        self._run = run
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
            alive = [one for one in able if one.profile or not self._why_dead(one)]
            if len(alive) < number and not any(candidate.profile for candidate in alive):
                raise BoardProblem(
                    f"{number} boards are wanted and {len(alive)} are left" + self._dead_ones(able)
                )
            if time.monotonic() > give_up:
                raise BoardProblem(f"others have used the boards for {_PATIENCE_S:.0f} s")
            # By chance, so that two who wait for each other's boards do not do so for ever.
            time.sleep(random.uniform(*_RETRY_S))  # noqa: S311

    def give_back(self, board: Board) -> None:
        """Take a board back from a test; one that cannot be brought to a prompt is quarantined."""
        slot = next(slot for slot in self._slots if slot.board is board)
        alive, tried = recover(board, pace=board.bench.pace)
        board.notes += tried
        if alive:
            board.measure_heap()
            board.rest()
            self._let_go(slot)
        else:
            self._set_aside(slot, tried)

    def close(self) -> None:
        """Let go of everything."""
        for slot in self._slots:
            if slot.board is not None:
                slot.board.close()
            if slot.lease is not None:
                slot.lease.release()
        for candidate in self._boards:
            if candidate.place is not None:
                candidate.place.close()

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
        alive, tried = self._flash(slot, board)
        if alive:
            alive, more = recover(board)
            tried += more
        if alive:
            try:
                board.begin()
            except BoardProblem as problem:  # it answers, but its flash, say, does not
                alive = False
                tried += [NOT_READY, str(problem)]
        board.notes += tried
        if not alive:
            self._set_aside(slot, tried)
            self._buried.append(board)
        return alive

    def _flash(self, slot: _Slot, board: Board) -> tuple[bool, list[str]]:
        """Flash a wired board unless this run has; returns whether it can be used, and notes.

        A board that hangs cannot be asked for its bootloader: it is brought back, and asked again.
        """
        if self._flasher is None or not slot.candidate.url:
            return True, []
        notes: list[str] = []
        for has_been_brought_back in (False, True):
            board.rest()
            try:
                told = self._flasher.flash(slot.candidate, self._locate(slot.candidate))
                return True, [*notes, *([told] if told else [])]
            except HandfastError as problem:
                notes += [NOT_FLASHED, str(problem)]
                if has_been_brought_back or not isinstance(problem, BoardProblem):
                    break
            alive, tried = recover(board)
            notes += tried
            if not alive:
                break
        return False, notes

    def _bench(self, slot: _Slot) -> Bench:
        chosen = slot.candidate
        if chosen.profile:
            return self._virtual(chosen.profile, slot.name)
        if chosen.place is not None:
            return chosen.place.bench
        return WiredBench(
            chosen.url,
            locate=self._locate(chosen),
            reset=chosen.reset,
            power_off=chosen.power_off,
            power_on=chosen.power_on,
        )

    def _locate(self, candidate: Candidate) -> Callable[[], str] | None:
        """Return what finds a board that is known by its stable name; None for one by its URL."""
        if not is_stable_name(candidate.url):
            return None
        from handfast.boards.local_ports import local_ports

        return Whereabouts(candidate.url, self._leases, self._run, local_ports).url

    def _virtual(self, profile: str, name: str) -> Bench:
        try:
            return VirtualBench(profile, self._folder / name, name, traced=self._traced)
        except EnvironmentProblem as problem:
            # Emulators come from elsewhere: a machine need not have them. A compiler it must have.
            if load_board(profile).kind != "emulated":
                raise
            raise NoSuchBoard(f"{profile} cannot be emulated here: {problem}") from problem

    def _try(self, able: Sequence[Candidate], number: int) -> list[_Slot]:
        # No further than the last that is wanted: the next would be leased for nothing.
        try:
            taken = list(islice((slot for one in able for slot in self._free(one)), number))
        except BaseException:
            for slot in self._slots:
                if not slot.busy:
                    self._let_go(slot)
            raise
        for slot in taken:
            slot.busy = True
        return taken

    def _free(self, candidate: Candidate) -> Iterator[_Slot]:
        """Yield slots of a candidate that are ours to use; new ones are leased."""
        for slot in self._slots:
            if slot.candidate is candidate and not (slot.busy or slot.dead):
                slot.lease = slot.lease or self._take(candidate, slot.name)
                if slot.lease is not None:
                    yield slot
        known = {slot.name for slot in self._slots}
        names = (
            [f"{candidate.name}-{number}" for number in range(1, _MOST_SIMULATED)]
            if candidate.profile
            else [candidate.name]
        )
        for name in names:
            if name not in known and (lease := self._take(candidate, name)):
                slot = _Slot(candidate, name, lease=lease)
                self._slots.append(slot)
                yield slot

    def _take(self, candidate: Candidate, name: str) -> Held | None:
        if candidate.place is not None:
            return candidate.place.take(self._leases)
        return take(self._leases, candidate.url or name)

    def _let_go(self, slot: _Slot) -> None:
        slot.busy = False
        if not (slot.candidate.profile or slot.dead) and slot.lease is not None:
            slot.lease.release()
            slot.lease = None

    def _set_aside(self, slot: _Slot, tried: Sequence[str]) -> None:
        """Put a board that cannot be used in quarantine, unless what hands it out is what fails.

        Such a board may be as sound as ever, and may be had again when its exporter is back.
        """
        place = slot.candidate.place
        if slot.board is not None and place is not None and (lost := place.lost):
            slot.board.notes.append(lost)
            slot.board.rest()
            self._let_go(slot)
        else:
            self._quarantine(slot, tried)

    def _quarantine(self, slot: _Slot, tried: Sequence[str]) -> None:
        slot.busy = False
        slot.dead = ", ".join(tried)
        if slot.board is not None:
            if slot.board.silence:
                slot.dead += f" ({slot.board.silence})"
            slot.board.notes.append(QUARANTINED)
            slot.board.overhear(_LAST_WORDS_S)
            slot.board.rest()

    def _why_dead(self, candidate: Candidate) -> str:
        if why := self.quarantined.get(candidate.name):
            return f"is in quarantine: {why}"
        return candidate.place.gone if candidate.place is not None else ""

    def _dead_ones(self, able: Sequence[Candidate]) -> str:
        return "".join(f"; {one.name} {why}" for one in able if (why := self._why_dead(one)))
