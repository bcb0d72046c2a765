"""The same done to several at once: results, the first failure, and what goes on beside it."""

from __future__ import annotations

import threading

import pytest

from handfast.lab.parallel import in_parallel

LONG_S = 60.0


def test_results_come_in_the_order_of_the_items() -> None:
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(LONG_S)
        if number == 1:
            second_is_done.set()
        return number * number

    assert in_parallel(work, [0, 1, 2], at_once=2) == [0, 1, 4]
    assert in_parallel(work, []) == []


def test_a_failure_is_raised_when_nothing_is_underway_any_more_and_nothing_else_is_begun() -> None:
    both = threading.Barrier(2, timeout=LONG_S)
    raised = threading.Event()
    begun, ended = [], []

    def work(name: str) -> None:
        begun.append(name)
        both.wait()
        if name == "fails":
            raise ValueError(name)
        raised.wait(2)  # what uses a board a little longer; in vain, if it is waited for
        ended.append(name)

    with pytest.raises(ValueError, match="fails"):
        in_parallel(work, ["fails", "goes on", "never", "never"], at_once=2)
    had_ended = list(ended)
    raised.set()
    assert had_ended == ["goes on"]
    assert sorted(begun) == ["fails", "goes on"]
