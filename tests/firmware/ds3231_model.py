"""A DS3231 as its data sheet has it (Maxim 19-5170, rev. 10): registers of figure 1 on I2C at 0x68.

Runs on CPython and on MicroPython. `advance` lets time go by, on the battery too; `lose_power`
without a battery stops the oscillator, which sets OSF (status register 0Fh, bit 7, also set at the
very first power-on).
"""

ADDRESS = 0x68


def bcd(n):
    return n // 10 << 4 | n % 10


class Ds3231Model:
    def __init__(self, unix=946684800, stopped=True):
        self.unix = unix
        self.status = 0x88 if stopped else 0x08  # OSF, EN32kHz
        self.answers = True
        self.set_to = []
        self.twelve_hours = False

    def advance(self, seconds):
        self.unix += seconds

    def lose_power(self):
        self.status |= 0x80

    def registers(self):
        from mtls.clock import to_civil

        year, month, day, hour, minute, second, weekday = to_civil(self.unix)
        hours = bcd(hour)
        if self.twelve_hours:  # bit 6, with bit 5 for PM
            hours = 0x40 | (0x20 if hour >= 12 else 0) | bcd(hour % 12 or 12)
        return [bcd(second), bcd(minute), hours, weekday + 1, bcd(day), bcd(month), bcd(year % 100)]

    # machine.I2C

    def _check(self, address):
        if not self.answers or address != ADDRESS:
            raise OSError(19)  # ENODEV

    def readfrom_mem(self, address, register, n):
        self._check(address)
        memory = self.registers() + [0] * 8 + [self.status] + [0] * 3
        return bytes(memory[register : register + n])

    def writeto_mem(self, address, register, data):
        from mtls.utc import to_unix

        self._check(address)
        if register == 0x0F:
            # "can only be written to logic 0": OSF stays as it is where 1 is written.
            self.status = data[0] & (0x7F | self.status)
            return
        assert (register, len(data)) == (0, 7)
        second, minute, hour, weekday, day, month, year = [(b >> 4) * 10 + (b & 15) for b in data]
        assert 1 <= weekday <= 7
        self.unix = to_unix(2000 + year, month, day, hour, minute, second)
        self.set_to.append(self.unix)
