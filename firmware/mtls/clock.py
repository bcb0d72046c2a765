# Handfast mTLS for MicroPython: one clock in Unix seconds, and how far it is believed
# MIT license; Copyright (c) 2026 the Handfast authors

import time

from micropython import const

from .errors import ClockNotSet, Untrusted
from .utc import BUILD_TIME, now

# Flash wears: a floor that rose by less is kept in memory only.
_FLOOR_STEP_S = const(3600)
_DAY_S = const(86400)
_SIGNED = const(("tsa", "leaf"))


# Calendar, back: see utc.py


def to_civil(unix):
    """(year, month, day, hour, minute, second, weekday with Monday 0) in UTC."""
    days, second = divmod(unix, _DAY_S)
    weekday = (days + 3) % 7
    days += 719468
    era = days // 146097
    of_era = days - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    day = of_year - (153 * shifted + 2) // 5 + 1
    year += era * 400 + (month <= 2)
    return year, month, day, second // 3600, second // 60 % 60, second % 60, weekday


def set_time(unix):
    """Set the board's clock."""
    from machine import RTC

    year, month, day, hour, minute, second, weekday = to_civil(unix)
    RTC().datetime((year, month, day, weekday, hour, minute, second, 0))


class Clock:
    """How far the board's clock is believed, with a floor that survives reboots.

    store has read_floor() -> Unix seconds or 0, and write_floor(seconds). Signed time and hints
    set the clock; only raise_floor(), after a verified handshake under signed time, moves the
    floor, and never beyond the leaf's notAfter: one forged answer cannot brick the board.
    """

    def __init__(self, store):
        self._store = store
        self._stored = store.read_floor() or 0
        self._floor = max(BUILD_TIME, self._stored)
        self.believable = False
        self.source = None  # "tsa", "leaf", "ntp" or "rtc", once believable
        self.drift_ppm = None  # of the board's ticks against signed time, once measured
        self._measured_from = None  # (signed time, ticks)
        self._doubtful_at = None  # ticks when signed time should be asked for again

    def floor(self):
        """No true time is before this."""
        return self._floor

    def note_not_before(self, not_before):
        """Our own leaf was issued no earlier: a floor for as long as this boot lasts."""
        self._floor = max(self._floor, not_before)

    def accept_signed(self, t):
        """Set the clock to a verified time-stamp; raises Untrusted below the floor."""
        if t < self._floor:
            raise Untrusted("signed time is before the floor", t, self._floor)
        self._believe(t, "tsa")
        from .drift import measure

        ticks = time.ticks_ms()
        began, began_ticks = self._measured_from or (t, ticks)
        since_ms = time.ticks_diff(ticks, began_ticks)
        self.drift_ppm, anew, trusted_ms = measure(t - began, since_ms, self.drift_ppm)
        if anew or self._measured_from is None:
            self._measured_from = (t, ticks)
        self._doubtful_at = time.ticks_add(ticks, trusted_ms)

    def doubtful(self):
        """Whether signed time should be asked for again, by the drift measured so far."""
        at = self._doubtful_at
        return at is not None and time.ticks_diff(time.ticks_ms(), at) >= 0

    def accept_hint(self, t, not_after, source="ntp"):
        """Set the clock to an unsigned time if it is within floor..not_after; says whether.

        not_after is the operational leaf's; without one (None) no hint is taken. What was signed,
        time or leaf, is never replaced by a hint.
        """
        if self.source in _SIGNED or not_after is None or not self._floor <= t <= not_after:
            return False
        self._believe(t, source)
        return True

    def accept_running(self, not_after):
        """Take the board's own clock (kept over a soft reset, or by a battery) as a hint."""
        if self.source in _SIGNED or not_after is None or not self._floor <= now() <= not_after:
            return False
        self.believable = True
        self.source = "rtc"
        return True

    def accept_issued(self, not_before):
        """Go back to where a leaf just issued begins, if a hint says later; says whether.

        That is late by at most what the gateway backdates leaves; signed time replaces it.
        """
        earliest = max(self._floor, not_before)
        if self.source in _SIGNED or earliest >= now():
            return False
        self._believe(earliest, "leaf")
        return True

    def _believe(self, t, source):
        set_time(t)
        self.believable = True
        self.source = source

    def require(self):
        """The time, in Unix seconds; raises ClockNotSet while it is not believable."""
        if not self.believable:
            raise ClockNotSet("no believable time yet: ask the time-stamp authority or NTP")
        return now()

    def raise_floor(self, t, not_after):
        """Call after a verified gateway handshake, with its time and our leaf's notAfter.

        Does nothing under a hinted time: a forged hint must not become the floor.
        """
        if self.source != "tsa":
            return
        self._floor = max(self._floor, min(t, not_after))
        if self._floor >= self._stored + _FLOOR_STEP_S:
            self._store.write_floor(self._floor)
            self._stored = self._floor
