"""`network` and the parts of `machine` that no simulated board has, as MicroPython 1.25.0's
documentation has them (docs.micropython.org/en/v1.25.0):

- library/network.WLAN: active, connect, disconnect, isconnected, config of ssid and of pm;
- library/network.LAN with the arguments of esp32/quickref, and library/network.WIZNET5K;
- library/machine.WDT: once it runs, its timeout stays and nothing stops it;
- library/machine.Timer: virtual ones by -1 where the port has them, numbered ones elsewhere.

Time is the model's own, `clock.now_ms`. Runs on MicroPython.
"""


class ClockModel:
    now_ms = 0

    def ticks_ms(self):
        return self.now_ms

    def ticks_add(self, ticks, ms):
        return ticks + ms

    def ticks_diff(self, end, start):
        return end - start

    def sleep_ms(self, ms):
        self.now_ms += ms


clock = ClockModel()


class Air:
    """What is in reach: SSIDs with their passwords; joining takes a second."""

    def __init__(self):
        self.in_reach = {}
        self.cable = False
        self.tried = []


air = Air()
_JOIN_MS = 1000


class WLAN:
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2
    _on = False
    _wanted = None
    _since = 0
    pm = 1

    def __new__(cls, _interface):
        return _station

    def active(self, on):
        self._on = on

    def connect(self, ssid, key):
        assert self._on
        air.tried.append(ssid)
        if ssid == "busy":
            raise OSError("Wifi Internal State Error")
        self._wanted = (ssid, key)
        self._since = clock.now_ms

    def disconnect(self):
        self._wanted = None

    def isconnected(self):
        if self._wanted is None or clock.now_ms - self._since < _JOIN_MS:
            return False
        ssid, key = self._wanted
        return air.in_reach.get(ssid) == key

    def config(self, name=None, **settings):
        if name is None:
            self.pm = settings["pm"]
            return None
        return self.pm if name == "pm" else self._wanted[0]


_station = object.__new__(WLAN)
STA_IF = 0
PHY_LAN8720 = 1


class LAN:
    made = 0

    def __init__(self, **arguments):
        LAN.made += 1
        self.arguments = arguments
        self._active = False

    def active(self, on):
        self._active = on

    def isconnected(self):
        return self._active and air.cable


class WIZNET5K(LAN):
    def __init__(self, spi, cs, reset):
        super().__init__(spi=spi, cs=cs, reset=reset)


# machine


class Pin:
    def __init__(self, number):
        self.number = number


class SPI(Pin):
    pass


class WDT:
    running = None
    made = 0
    once = True  # False: a port that lets a program start it again, which feeds it

    def __init__(self, timeout):
        assert timeout <= 8388, "rp2 allows no more"
        WDT.made += 1
        assert WDT.running is None or not WDT.once, "it cannot be started twice"
        WDT.running = self
        self.timeout = timeout
        self.fed_at = clock.now_ms

    def feed(self):
        self.fed_at = clock.now_ms

    def bitten(self):
        return clock.now_ms - self.fed_at > self.timeout


class Timer:
    PERIODIC = 1
    running = None
    started = []  # all of them: nobody stops one

    def __init__(self, number):
        if number < 0 and Timer.numbered:
            raise ValueError("invalid Timer number")

    numbered = False

    def init(self, period, mode, callback):
        assert mode == Timer.PERIODIC
        self.period = period
        self.callback = callback
        Timer.running = self
        Timer.started.append(self)
