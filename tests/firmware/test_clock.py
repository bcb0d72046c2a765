"""The device's clock: the calendar, epochs, and what is believed when."""
# ruff: noqa: ARG001  (the board fixture stands in for the modules that the clock imports)

import time
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls import clock, drift, utc
from mtls.errors import ClockNotSet, Untrusted

T = 1795492904
END = T + 86400


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_calendar_agrees_with_python(moment):
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    unix = round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1))
    assert utc.to_unix(*moment.timetuple()[:6]) == unix
    assert clock.to_civil(unix) == (*moment.timetuple()[:6], moment.weekday())


@pytest.mark.parametrize("year", [1970, 1971, 2000, 2001, 2024, 2026, 2027, 2100, 2101, 2400])
@pytest.mark.parametrize("month", [1, 3])
def test_calendar_agrees_with_python_in_the_seconds_before_and_after_a_leap_day(year, month):
    for second in (-1, 0):
        moment = datetime(year, month, 1, tzinfo=UTC) + timedelta(seconds=second)
        unix = int(moment.timestamp())
        assert utc.to_unix(*moment.timetuple()[:6]) == unix
        assert clock.to_civil(unix) == (*moment.timetuple()[:6], moment.weekday())


def test_calendar_agrees_with_the_interpreter_s_own():
    """Whatever its epoch is: `clock.time` is the module that the library itself asks."""
    epoch = utc.to_unix(clock.time.gmtime(0)[0], 1, 1)
    for moment in (T, utc.to_unix(2027, 2, 28, 23, 59, 59), utc.to_unix(2028, 2, 29)):
        assert tuple(clock.time.gmtime(moment - epoch))[:6] == tuple(clock.to_civil(moment))[:6]


class StoreModel:
    """What the clock needs of the store."""

    def __init__(self, floor=0):
        self.floor = floor
        self.writes = 0

    def read_floor(self):
        return self.floor

    def write_floor(self, seconds):
        self.floor = seconds
        self.writes += 1


@pytest.fixture(params=[1970, 2000])
def board(request, monkeypatch, device_modules):
    """A board's time and machine modules, with the epoch that its port has."""
    state = SimpleNamespace(unix=utc.to_unix(request.param, 1, 1), set_to=None, ticks_ms=0)
    epoch = utc.to_unix(request.param, 1, 1)

    class RTC:
        def datetime(self, fields):
            state.set_to = fields
            year, month, day, _, hour, minute, second, _ = fields
            state.unix = utc.to_unix(year, month, day, hour, minute, second)

    machine = ModuleType("machine_model")
    machine.RTC = RTC
    monkeypatch.setitem(device_modules, "machine", machine)
    board_time = SimpleNamespace(
        time=lambda: state.unix - epoch,
        gmtime=lambda t: time.gmtime(t + epoch),
        ticks_ms=lambda: state.ticks_ms,
        ticks_add=lambda ticks, ms: ticks + ms,
        ticks_diff=lambda later, earlier: later - earlier,
    )
    for module in (clock, utc):
        monkeypatch.setattr(module, "time", board_time)
    return state


def test_time_is_set_and_read_in_unix_seconds(board):
    clock.set_time(T)
    assert clock.now() == T
    moment = datetime.fromtimestamp(T, UTC)
    assert board.set_to == (*moment.timetuple()[:3], moment.weekday(), *moment.timetuple()[3:6], 0)


def test_new_board_believes_nothing(board):
    mine = clock.Clock(StoreModel())
    assert not mine.believable
    assert mine.source is None
    assert mine.floor() == clock.BUILD_TIME
    with pytest.raises(ClockNotSet):
        mine.require()


def test_signed_time_sets_the_clock_and_leaves_the_floor(board):
    store = StoreModel(T - 10)
    mine = clock.Clock(store)
    mine.accept_signed(T)
    assert (mine.believable, mine.source, mine.require()) == (True, "tsa", T)
    assert mine.floor() == T - 10
    assert store.writes == 0


def test_signed_time_below_the_floor_is_refused(board):
    mine = clock.Clock(StoreModel(T))
    with pytest.raises(Untrusted):
        mine.accept_signed(T - 1)
    assert not mine.believable
    assert clock.now() != T - 1


@pytest.mark.parametrize(
    ("hint", "not_after", "taken"),
    [
        (T, END, True),
        (END, END, True),
        (T - 1, END, False),
        (END + 1, END, False),
        (T, None, False),
    ],
)
def test_hint_is_taken_between_floor_and_leaf_end_only(board, hint, not_after, taken):
    store = StoreModel(T)
    mine = clock.Clock(store)
    before = clock.now()
    assert mine.accept_hint(hint, not_after) is taken
    assert mine.believable is taken
    assert clock.now() == (hint if taken else before)
    assert mine.source == ("ntp" if taken else None)
    assert mine.floor() == T
    assert store.writes == 0


def test_hint_never_replaces_signed_time(board):
    mine = clock.Clock(StoreModel())
    mine.accept_signed(T)
    assert not mine.accept_hint(T + 50, END)
    assert clock.now() == T
    assert mine.source == "tsa"


def test_signed_time_replaces_a_hint(board):
    mine = clock.Clock(StoreModel())
    assert mine.accept_hint(T + 50, END)
    mine.accept_signed(T)
    assert (clock.now(), mine.source) == (T, "tsa")


def test_floor_does_not_rise_under_a_hinted_time(board):
    store = StoreModel(T)
    mine = clock.Clock(store)
    mine.accept_hint(END, END)
    mine.raise_floor(END, END)
    assert mine.floor() == T
    assert store.writes == 0


def test_floor_rises_after_a_handshake_under_signed_time_and_survives(board):
    store = StoreModel()
    mine = clock.Clock(store)
    mine.accept_signed(T)
    mine.raise_floor(T, END)
    assert mine.floor() == T
    assert clock.Clock(store).floor() == T


def test_floor_never_rises_beyond_the_leafs_end(board):
    store = StoreModel()
    mine = clock.Clock(store)
    mine.accept_signed(END + 10**9)
    mine.raise_floor(END + 10**9, END)
    assert mine.floor() == END


def test_floor_never_falls(board):
    mine = clock.Clock(StoreModel(END))
    mine.accept_signed(END)
    mine.raise_floor(T, END)
    assert mine.floor() == END


def test_floor_costs_one_write_an_hour(board):
    store = StoreModel()
    mine = clock.Clock(store)
    mine.accept_signed(T)
    for t in range(T, T + 7200, 60):
        mine.raise_floor(t, END)
    assert mine.floor() == T + 7140
    assert store.writes == 2
    assert store.floor == T + 3600


def test_own_leaf_is_a_floor_for_this_boot(board):
    store = StoreModel()
    mine = clock.Clock(store)
    mine.note_not_before(T)
    assert mine.floor() == T
    with pytest.raises(Untrusted):
        mine.accept_signed(T - 1)
    assert store.writes == 0


@pytest.mark.parametrize(
    ("running", "not_after", "taken"),
    [(T, END, True), (T - 1, END, False), (END + 1, END, False), (T, None, False)],
)
def test_running_clock_is_a_hint_like_any_other(board, running, not_after, taken):
    mine = clock.Clock(StoreModel(T))
    board.unix = running
    assert mine.accept_running(not_after) is taken
    assert mine.believable is taken
    assert mine.source == ("rtc" if taken else None)
    assert board.set_to is None


@pytest.mark.parametrize(
    ("hint", "not_before", "becomes"),
    [(END, T + 5, T + 5), (END, T - 60, T), (T + 4, T + 5, None), (T, T - 60, None)],
    ids=["ahead", "backdated below the floor", "behind", "at the floor"],
)
def test_a_leaf_just_issued_corrects_a_hint_that_says_later(board, hint, not_before, becomes):
    store = StoreModel(T)
    mine = clock.Clock(store)
    mine.accept_hint(hint, END)
    assert mine.accept_issued(not_before) is (becomes is not None)
    assert (clock.now(), mine.source) == ((becomes, "leaf") if becomes else (hint, "ntp"))
    mine.raise_floor(END, END)
    assert mine.floor() == T
    assert store.writes == 0


def test_hints_are_over_once_a_leaf_has_contradicted_one(board):
    mine = clock.Clock(StoreModel(T))
    mine.accept_hint(END, END)
    mine.accept_issued(T + 5)
    assert not mine.accept_hint(END, END)
    assert not mine.accept_running(END)
    assert clock.now() == T + 5
    mine.accept_signed(T + 9)
    assert (clock.now(), mine.source) == (T + 9, "tsa")


def test_a_leaf_never_replaces_signed_time(board):
    mine = clock.Clock(StoreModel())
    mine.accept_signed(END)
    assert not mine.accept_issued(T)
    assert (clock.now(), mine.source) == (END, "tsa")


@given(st.integers(0, 10**6), st.integers(-60_000, 60_000))
def test_drift_is_measured_from_an_hour_to_five_days(signed_s, ppm):
    measured = drift.drift_ppm(signed_s, signed_s * 1000 + signed_s * ppm // 1000)
    if 3600 <= signed_s <= 5 * 86400:
        assert abs(measured - ppm) <= 1
    else:
        assert measured is None


@given(st.integers(-60_000, 60_000))
def test_a_clock_is_trusted_until_it_may_be_off_by_half_a_minute(ppm):
    trusted_ms = drift.trusted_ms(ppm)
    assert trusted_ms * abs(ppm) <= 30_000 * 1_000_000
    assert 500_000 <= trusted_ms <= 5 * 86_400_000
    assert drift.trusted_ms(None) == 3_600_000


def ticks(board, seconds, ppm):
    """Let time go by on a board that is fast by so many parts in a million."""
    board.ticks_ms += seconds * 1000 + seconds * ppm // 1000


def test_drift_is_told_after_the_second_signed_time_and_says_when_to_ask_again(board):
    mine = clock.Clock(StoreModel())
    assert not mine.doubtful()
    mine.accept_signed(T)
    assert mine.drift_ppm is None
    ticks(board, 3599, 2000)
    assert mine.doubtful(), "nothing is measured yet: an hour tells"
    mine.accept_signed(T + 3599)
    assert mine.drift_ppm is None, "a second too early"
    assert not mine.doubtful()
    ticks(board, 3601, 2000)
    mine.accept_signed(T + 7200)
    assert mine.drift_ppm == 2000
    ticks(board, 14_900, 2000)
    assert not mine.doubtful()
    ticks(board, 200, 2000)
    assert mine.doubtful(), "30 s off by now"


def test_a_hint_says_nothing_of_drift(board):
    mine = clock.Clock(StoreModel(T))
    mine.accept_hint(T, END)
    ticks(board, 7200, 500)
    mine.accept_hint(T + 7200, END)
    assert mine.drift_ppm is None
    assert not mine.doubtful(), "signed time is asked for all the same, see Agent"
