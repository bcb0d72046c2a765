"""Several boards side by side: how many at a time, whose failure is whose, and how it stops."""

from __future__ import annotations

import threading
import time

import pytest

from handfast.boards import many
from handfast.boards.device_library import DeviceLibrary
from handfast.boards.many import LibraryOnce, Outcome, Stopped, provision_many
from handfast.boards.provision import Progress, Provisioned
from handfast.errors import BoardProblem, EnvironmentProblem

BOARDS = [f"port {number}" for number in range(6)]


def done_with(board: str) -> Provisioned:
    return Provisioned(
        board.replace(" ", "-"), "00", 1, 0, 0, 0, True, False, "aa", True, True, False, 0
    )


def run(provision_one: many.Callable[[str, Progress], Provisioned], **how: object) -> list[Outcome]:
    options = {"at_once": 2, "tell": lambda *_: None, "finished": lambda _: None, **how}
    return provision_many(BOARDS, provision_one, **options)  # type: ignore[arg-type]


def test_outcomes_are_in_the_order_of_the_boards_and_failures_are_their_own() -> None:
    def one(board: str, _: Progress) -> Provisioned:
        time.sleep(0.02 * (6 - BOARDS.index(board)))
        if board == "port 1":
            raise BoardProblem("unplugged")
        if board == "port 2":
            raise OSError(28, "No space left on device")
        return done_with(board)

    outcomes = run(one)
    assert [outcome.board for outcome in outcomes] == BOARDS
    failed = {outcome.board: outcome.problem for outcome in outcomes if outcome.problem}
    assert set(failed) == {"port 1", "port 2"}
    assert isinstance(failed["port 2"], EnvironmentProblem)


@pytest.mark.parametrize("at_once", [1, 3, 6, 20])
def test_so_many_at_a_time(at_once: int) -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def one(board: str, _: Progress) -> Provisioned:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.3)
        with lock:
            busy -= 1
        return done_with(board)

    run(one, at_once=at_once)
    assert most == min(at_once, len(BOARDS))


def test_what_cannot_be_recorded_keeps_the_next_board_from_being_begun() -> None:
    begun: list[str] = []

    def one(board: str, _: Progress) -> Provisioned:
        begun.append(board)
        return done_with(board)

    def finished(_: Outcome) -> None:
        raise EnvironmentProblem("the record's disk is full")

    with pytest.raises(EnvironmentProblem, match="disk is full"):
        run(one, at_once=1, finished=finished)
    assert begun == ["port 0"]


def test_stopping_reaches_every_board_that_is_being_worked_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []
    told = threading.Event()

    def one(board: str, progress: Progress) -> Provisioned:
        try:
            while True:
                progress("copy", 0)
                told.set()
                time.sleep(0.01)
        except Stopped:
            ended.append(board)
            raise

    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if threading.current_thread() is threading.main_thread() and not ended:
            told.wait(10)
            monkeypatch.setattr(threading.Thread, "join", join)
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(one)
    assert ended
    assert set(ended) <= set(BOARDS[:2])  # the others were not begun


def test_the_library_is_made_once_for_all_boards_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def slowly(micropython: str, mpy: int) -> DeviceLibrary:
        made.append((micropython, mpy))
        time.sleep(0.1)
        return DeviceLibrary({micropython: b""}, None)

    monkeypatch.setattr(many, "device_library", slowly)
    once = LibraryOnce()
    kinds = [("1.26.1", 6), ("1.25.0", 6)] * 4
    threads = [threading.Thread(target=once, args=kind) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(set(kinds))
    assert once("1.26.1", 6).files == {"1.26.1": b""}
