# Handfast mTLS for MicroPython: the DS3231, a clock chip with a battery, on I2C
# MIT license; Copyright (c) 2026 the Handfast authors
"""Imported only where config.json has an `rtc`. What the chip says is a hint, as NTP's word is: it
sets the clock between floor and leaf's end, and signed time is asked for all the same.

Registers as in Maxim's data sheet 19-5170, rev. 10, figure 1 ("Timekeeping Registers").
"""

from micropython import const

from .clock import to_civil
from .errors import ClockNotSet, ConfigError
from .utc import to_unix

_ADDRESS = const(0x68)
_TIME = const(0x00)  # seconds, minutes, hours, day of week, date, month, year: BCD
_STATUS = const(0x0F)
_STOPPED = const(0x80)  # OSF: the oscillator stopped since this bit was cleared, the time is wrong
_TWELVE_HOURS = const(0x40)
_KHZ = const(100000)


def read(settings):
    """Return the chip's time in Unix seconds; ClockNotSet if it does not answer or has none.

    `settings` is config.json's `rtc`: {"chip": "ds3231", "i2c", "scl", "sda"}, numbers.
    """
    bus = _bus(settings)
    try:
        stopped = bus.readfrom_mem(_ADDRESS, _STATUS, 1)[0] & _STOPPED
        registers = bus.readfrom_mem(_ADDRESS, _TIME, 7)
    except OSError:
        raise _silent(settings)
    if stopped:
        raise ClockNotSet("the DS3231 has lost its time: is its battery empty?")
    return parse(registers)


def write(settings, unix):
    """Set the chip, and let it vouch for that until its oscillator next stops."""
    bus = _bus(settings)
    try:
        bus.writeto_mem(_ADDRESS, _TIME, pack(unix))
        status = bus.readfrom_mem(_ADDRESS, _STATUS, 1)[0]
        bus.writeto_mem(_ADDRESS, _STATUS, bytes([status & ~_STOPPED & 0xFF]))
    except OSError:
        raise _silent(settings)


def parse(registers):
    """Return the Unix seconds of the seven registers; ClockNotSet if they hold no time."""
    fields = [registers[0], registers[1], registers[2], registers[4], registers[5], registers[6]]
    fields[4] &= 0x7F  # the century bit, which toggles after 99: all our years begin with 20
    second, minute, hour, day, month, year = [(b >> 4) * 10 + (b & 15) for b in fields]
    good = not registers[2] & _TWELVE_HOURS and all(b & 15 < 10 for b in fields)
    good = good and second < 60 and minute < 60 and hour < 24 and 1 <= day <= 31
    if not good or not 1 <= month <= 12 or year > 99:
        raise ClockNotSet("the DS3231 holds no time: is it another chip?")
    return to_unix(2000 + year, month, day, hour, minute, second)


def pack(unix):
    """Return the seven registers for a time from 2000 to 2099."""
    year, month, day, hour, minute, second, weekday = to_civil(unix)
    fields = (second, minute, hour, weekday + 1, day, month, year % 100)
    return bytes([n // 10 << 4 | n % 10 for n in fields])


def _bus(settings):
    numbers = None
    if isinstance(settings, dict) and settings.get("chip") == "ds3231":
        numbers = [settings.get(name) for name in ("i2c", "scl", "sda")]
    if not numbers or not all(isinstance(n, int) and 0 <= n < 256 for n in numbers):
        raise ConfigError('config.json: rtc must have "chip": "ds3231", i2c, scl, sda')
    from machine import I2C, Pin

    return I2C(numbers[0], scl=Pin(numbers[1]), sda=Pin(numbers[2]), freq=_KHZ)


def _silent(settings):
    return ClockNotSet("no DS3231 answers on I2C bus %d: check its wiring" % settings["i2c"])
