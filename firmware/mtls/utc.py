# Handfast mTLS for MicroPython: the board's clock in Unix seconds
# MIT license; Copyright (c) 2026 the Handfast authors

import time

# No board runs this library before it was written: 2026-01-01T00:00:00Z.
BUILD_TIME = 1767225600


# Calendar (proleptic Gregorian, after Howard Hinnant's days_from_civil)


def to_unix(year, month, day, hour=0, minute=0, second=0):
    """Unix seconds of a civil time in UTC."""
    shifted = year - (month <= 2)  # years that start in March put the leap day last
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def from_board(board_seconds):
    """Unix seconds of what time.time() says."""
    return int(board_seconds) + to_unix(time.gmtime(0)[0], 1, 1)  # 1970, or 2000 on the ESP32


def now():
    """The board's clock in Unix seconds, whether right or not."""
    return from_board(time.time())
