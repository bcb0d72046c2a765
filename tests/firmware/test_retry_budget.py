"""An agent's retries over what is left of a life: enough of them, and no more than are of use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mtls.plan import backoff_ms

DAY_S = 86_400
# The wait is an eighth of what is left, half of that with luck, until the last seconds...
MOST_OF_AN_EIGHTH = 120
# ...and of a life so long that an eighth is more than a quarter of an hour, that, or half of it.
CEILING_S = 900


def attempts(left_s: int, jitter: int) -> tuple[int, float]:
    """Let each attempt fail at once until the leaf has ended: how many there were, and the longest
    wait as a share of what was left when it began."""
    left_ms, failures, largest = left_s * 1000, 0, 0.0
    while left_ms > 0:
        failures += 1
        wait_ms = backoff_ms(failures, left_ms // 1000, jitter)
        if left_ms > 8_000:  # below it, half a second to a second is the floor
            largest = max(largest, wait_ms / left_ms)
        left_ms -= wait_ms
    return failures, largest


@given(st.integers(10, 90 * DAY_S), st.integers(0, 255))
def test_a_gateway_that_stays_away_is_asked_a_bounded_number_of_times(
    left_s: int, jitter: int
) -> None:
    number, _ = attempts(left_s, jitter)
    assert number <= MOST_OF_AN_EIGHTH + left_s / (CEILING_S / 2)


@given(st.integers(60, 90 * DAY_S), st.integers(0, 255))
def test_no_wait_takes_more_than_an_eighth_of_what_is_left(left_s: int, jitter: int) -> None:
    number, largest = attempts(left_s, jitter)
    assert largest <= 1 / 8
    assert number >= 20
