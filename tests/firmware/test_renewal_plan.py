"""When the board renews and how it backs off: pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls.plan import backoff_ms, pause_ms, renewal_plan, renewal_time
from mtls.window import interval_ms, moment

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


@given(st.integers(1, 30), st.integers(1, 10**8), octets, st.integers(0, 86400))
def test_what_the_peer_asks_for_is_waited_but_never_past_half_of_what_is_left(
    failures, left_s, jitter, asked_s
):
    own = backoff_ms(failures, left_s, jitter)
    assert backoff_ms(failures, left_s, jitter, asked_s) == max(
        own, min(asked_s, left_s // 2) * 1000
    )


@given(st.integers(1, 30), octets, st.integers(0, 86400))
def test_without_a_leaf_the_peer_may_ask_for_a_day(failures, jitter, asked_s):
    assert backoff_ms(failures, 0, jitter, asked_s) == max(
        backoff_ms(failures, 0, jitter), asked_s * 1000
    )


chances = st.integers(0, 65535)


@given(starts, lives, octets, st.integers(-(10**6), 10**9), st.integers(1, 10**6))
def test_a_suggested_moment_takes_the_place_of_the_plans_own(start, life, jitter, offset, early):
    suggested = start + life - min(early, life)
    verdict, seconds = renewal_plan(start, start + life, start + offset, jitter, suggested)
    if offset >= life:
        assert (verdict, seconds) == ("lost", 0)
    elif start + offset >= suggested:
        assert (verdict, seconds) == ("renew", life - offset)
    else:
        assert (verdict, seconds) == ("wait", suggested - start - offset)


@given(starts, lives, chances, st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7))
def test_a_window_is_kept_to_or_ignored(start, life, chance, begin, length):
    window = [start + begin, start + begin + length]
    latest = start + life - life // 6
    chosen = moment(window, start, start + life, chance)
    if begin > 0 and length > 0 and window[0] < latest:
        assert window[0] <= chosen <= min(window[1], latest)
    else:
        assert chosen is None


@given(starts, lives)
def test_a_fleet_spreads_over_the_whole_window(start, life):
    window = [start + life // 4 + 1, start + life // 2 + 1]
    assert moment(window, start, start + life, 0) == window[0]
    assert moment(window, start, start + life, 65535) == window[1]


@pytest.mark.parametrize(
    "window",
    [
        *[None, "now", 7, [], [1600], [1600, 1700, 1800], ["1600", "1700"], [1600.0, 1700.0]],
        *[[True, True], [1700, 1600], [None, None], {"1600": 1700}, [-(10**30), 10**30]],
    ],
    ids=str,
)
def test_a_window_that_makes_no_sense_is_ignored(window):
    assert moment(window, 1500, 2500, 0) is None


def test_a_leaf_that_was_issued_in_the_window_has_done_what_it_asks():
    assert moment([1600, 1700], 1599, 2599, 0) == 1600
    assert moment([1600, 1700], 1600, 2600, 0) is None


def test_a_window_that_ends_too_late_is_cut_and_one_that_begins_too_late_ignored():
    assert moment([2000, 9000], 0, 6000, 65535) == 5000
    assert moment([5000, 9000], 0, 6000, 0) is None


@given(starts, lives)
def test_the_gateway_is_asked_sixteen_times_a_life_within_bounds(start, life):
    every_s = interval_ms(start, start + life) / 1000
    assert 15 <= every_s <= 6 * 3600
    assert every_s in (15, 6 * 3600, life // 16)


@given(st.integers(0, 10**9))
def test_no_leaf_is_asked_for_within_three_seconds_of_another(since_ms):
    assert since_ms + pause_ms(since_ms) >= 3000
    assert pause_ms(since_ms) <= 3000
    assert pause_ms(-since_ms - 1) == 0, "the ticks have wrapped"


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_busy_session_is_waited_for_while_a_tenth_of_the_life_is_left(since_ms, left_s, life_s):
    waits = pause_ms(since_ms, True, left_s, life_s)
    if left_s > life_s / 10:
        assert waits == 1000
    else:
        assert waits == pause_ms(since_ms)
