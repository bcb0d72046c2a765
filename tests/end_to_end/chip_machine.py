# /lib/machine.py of a simulated board with a secure element: the port's own module, and an I2C bus
# with the model of the chip on it (atecc_model.py, beside it), whose memory is the file /chip.
# ruff: noqa: PTH123  (MicroPython has no pathlib)
# The file /chip-fault says what is wrong with the chip: "unplugged", or "mute" when asked to sign.
import time

from umachine import *  # noqa: F403

_OVERCLOCKED = 20  # commands take that much less time than a real chip's: tests wait less


def Pin(number):
    return number


def I2C(bus, scl, sda, freq):
    import atecc_model  # needs the library, which provisioning brings

    if (bus, scl, sda) != (0, 5, 4):
        raise ValueError("no such pins on this bus")
    fault = _fault()
    if fault == "unplugged":
        return atecc_model.Bus({}, freq)
    chip = atecc_model.Chip(atecc_model.FlashMemory(), _microseconds)
    for opcode in chip.duration_ms:
        chip.duration_ms[opcode] //= _OVERCLOCKED
    if fault == "mute":
        chip._sign = lambda *_: atecc_model.EXECUTION_ERROR
    return atecc_model.Bus({0x60: chip}, freq)


def _fault():
    try:
        with open("/chip-fault") as file:
            return file.read()
    except OSError:
        return None


_last = time.ticks_us()
_count = 0


def _microseconds():
    """ticks_us without its wrapping round."""
    global _last, _count
    now = time.ticks_us()
    _count += time.ticks_diff(now, _last)
    _last = now
    return _count
