"""A model of `network.PPP` and `machine.UART` as MicroPython 1.26.1 has them on an ESP32:

- library/network.PPP, and ports/esp32/network_ppp.c for what each state allows and answers;
- library/machine.UART, and ports/esp32/machine_uart.c for the arguments and UART1's pins.

What lwIP makes of the line is up to a test: `links` has for a UART's number what makes it, an
object with connect(), poll(), close(), `is_up`, `error` (0 for none) and `settings`. Runs on
MicroPython too.
"""

EALREADY = 114
FLASH_PINS = range(6, 12)  # ESP32 datasheet, "Strapping Pins" and "Pin Overview"
INACTIVE, ACTIVE, ERROR, CONNECTING, CONNECTED = range(5)

links = {}


class UART:
    IRQ_RXIDLE = 0x1000
    _PINS = {1: (10, 9), 2: (17, 16)}

    def __init__(self, number, baudrate=115200, *, tx=None, rx=None, txbuf=256, rxbuf=256):
        self.number = number
        self.settings = (baudrate, txbuf, rxbuf)
        default_tx, default_rx = self._PINS[number]
        pins = (default_tx if tx is None else tx, default_rx if rx is None else rx)
        assert not [pin for pin in pins if pin in FLASH_PINS], "the chip's flash hangs on them"
        self.handler = None

    def irq(self, handler, trigger=0):
        assert handler is None or trigger == self.IRQ_RXIDLE
        self.handler = handler


class PPP:
    made = []

    def __init__(self, stream):
        self.stream = stream
        self._state = INACTIVE
        self._link = None
        PPP.made.append(self)

    def connect(self):
        if self._state in (CONNECTING, CONNECTED):
            raise OSError(EALREADY)
        if self._state == INACTIVE:
            self._link = links[self.stream.number]()
            self.stream.irq(self.poll, self.stream.IRQ_RXIDLE)
        self._state = CONNECTING
        self._link.connect()
        self.poll()

    def poll(self):
        if self._state <= ERROR:
            return -1
        self._link.poll()
        if self._link.error:
            self._state = ERROR
        elif self._link.is_up:
            self._state = CONNECTED
        return 0

    def isconnected(self):
        return self._state == CONNECTED

    def status(self):
        return -self._link.error if self._state == ERROR else self._state

    def ifconfig(self):
        return self._link.settings if self._state >= ACTIVE else (None,) * 4

    def active(self, on):
        assert not on, "only connect() makes it active here"
        if self._state >= ACTIVE:
            self._link.close()
            self.stream.irq(None)
            self._state = INACTIVE
        return False
