"""Which calls count as lost: each way in which one can be, and none that is only on its way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.lab.demo.calls import Told, lost_calls


def boot(name: str, *numbers: int) -> list[Told]:
    return [(name, seq) for seq in numbers]


@given(st.integers(1, 20), st.integers(0, 3))
def test_nothing_is_lost_where_all_that_was_acknowledged_is_stored_once(
    reports: int, on_their_way: int
) -> None:
    acknowledged = boot("a", *range(1, reports + 1))
    stored = boot("a", *range(1, reports + 1 + on_their_way))
    assert lost_calls(acknowledged, stored) == set()


@pytest.mark.parametrize(
    ("acknowledged", "stored", "lost"),
    [
        (boot("a", 1, 2, 3), boot("a", 1, 3), boot("a", 2)),
        (boot("a", 1, 2), boot("a", 1, 2, 2), boot("a", 2)),
        (boot("a", 1, 3), boot("a", 1, 2, 3), boot("a", 2)),
        (boot("a", 3), boot("a", 1, 2, 3), boot("a", 1, 2)),
        (boot("a", 1), boot("b", 1), boot("a", 1)),
        (boot("a", 1) + boot("b", 1), boot("a", 1, 2) + boot("b", 1), boot("a", 2)),
    ],
    ids=[
        "acknowledged, not stored",
        "stored twice",
        "never acknowledged",
        "never acknowledged, at the start",
        "stored under another boot",
        "never acknowledged, the last of an earlier boot",
    ],
)
def test_each_way_to_lose_a_call_is_seen(
    acknowledged: list[Told], stored: list[Told], lost: list[Told]
) -> None:
    assert lost_calls(acknowledged, stored) == set(lost)
