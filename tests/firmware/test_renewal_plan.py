"""When the board renews and how it backs off: pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls.plan import backoff_ms, renewal_plan, renewal_time

starts = st.integers(1_500_000_000, 4_000_000_000)
lives = st.integers(10, 400 * 86400)
octets = st.integers(0, 255)


@given(starts, lives, octets)
def test_renewal_falls_at_two_thirds_less_at_most_a_twentieth(start, life, jitter):
    due = renewal_time(start, start + life, jitter)
    latest = start + life * 2 // 3
    assert latest - life / 20 - 1 <= due <= latest


@given(starts, lives, octets, st.integers(-(10**6), 10**9))
def test_the_plan_waits_then_renews_then_is_lost(start, life, jitter, offset):
    now = start + offset
    verdict, seconds = renewal_plan(start, start + life, now, jitter)
    due = renewal_time(start, start + life, jitter)
    if now >= start + life:
        assert (verdict, seconds) == ("lost", 0)
    elif now >= due:
        assert (verdict, seconds) == ("renew", start + life - now)
    else:
        assert (verdict, seconds) == ("wait", due - now)
        assert seconds > 0


@given(octets)
def test_the_earliest_renewal_uses_the_whole_jitter(jitter):
    assert renewal_time(0, 6000, 0) == 4000
    assert renewal_time(0, 6000, 255) == 3700
    assert 3700 <= renewal_time(0, 6000, jitter) <= 4000


@given(st.integers(1, 10**6), st.integers(0, 10**8), octets)
def test_backoff_stays_between_its_floor_and_ceiling(failures, left_s, jitter):
    assert 500 <= backoff_ms(failures, left_s, jitter) <= 900_000


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_backoff_never_shrinks_with_more_failures(failures, left_s):
    assert backoff_ms(failures + 1, left_s, 0) >= backoff_ms(failures, left_s, 0)


@pytest.mark.parametrize("left_s", [5, 15, 60, 3600, 86400])
def test_at_least_six_attempts_fit_into_what_is_left(left_s):
    spent = sum(backoff_ms(n, left_s, 255) for n in range(1, 6))
    assert spent < left_s * 1000
