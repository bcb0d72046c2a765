"""How a host reaches a chip's model: a PTY behind a stable name, or an RFC 2217 serial server."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import tty
from pathlib import Path

from esp_rfc2217_server.esp_port_manager import EspPortManager
from esp_rom_model import EspModel
from esptool.reset import DEFAULT_RESET_DELAY, ClassicReset
from serial.rfc2217 import PortManager

_POLL_S = 0.02
# The capacitor at EN (ESP32 hardware design guidelines, 10 kOhm and 1 uF) takes this long to
# charge: of DTR and RTS changed one after the other the chip sees only what came last.
EN_RISE_S = 0.02


class PtyLine:
    """A PTY whose slave is found at ``port``, a symbolic link; :meth:`unplug` takes it away."""

    def __init__(self, model: EspModel, folder: Path) -> None:
        self.model = model
        self.port = folder / "ttyMODEL0"
        self._stop = threading.Event()
        self._gone = threading.Event()
        self.plug()
        model.unplug = self._gone.set
        self.replug_after_s: float | None = 0.2
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def plug_again(self) -> None:
        """Plug in a board that stayed unplugged, its boot button held."""
        self._thread.join()
        self.model.reset(download=True)
        self.plug()
        self._start()

    def plug(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.port.unlink(missing_ok=True)
        self.port.symlink_to(os.ttyname(slave))
        os.close(slave)
        master = self._master
        self.model.send = lambda data: self._write(master, data)
        self._gone.clear()

    def _write(self, master: int, data: bytes) -> None:
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(master, data) :]

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                if select.select([self._master], [], [], _POLL_S)[0]:
                    self.model.receive(os.read(self._master, 65536))
                    if not self._gone.is_set():
                        continue
            if self._gone.is_set():
                os.close(self._master)
                self.port.unlink(missing_ok=True)
                if self.replug_after_s is None or self._stop.wait(self.replug_after_s):
                    return
                self.model.reset(download=True)
                self.plug()
            self._stop.wait(_POLL_S / 10)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            os.close(self._master)


class _ModelPort:
    """The chip's model as a pyserial port: DTR and RTS drive IO0 and EN through two transistors.

    The circuit is that of Espressif's development kits ([BM], "Automatic Bootloader"): EN is low
    while RTS alone is on, IO0 is low while DTR alone is on.
    """

    port = name = "model"
    baudrate, bytesize, parity, stopbits = 115200, 8, "N", 1
    xonxoff = rtscts = False
    timeout: float | None = None
    cts = dsr = ri = cd = False
    is_open = True

    def __init__(self, model: EspModel) -> None:
        self.model = model
        self._dtr = self._rts = False
        self._held = False
        self._rising: threading.Timer | None = None
        self._received = threading.Condition()
        self._bytes = bytearray()
        model.send = self._came

    def _came(self, data: bytes) -> None:
        with self._received:
            self._bytes += data
            self._received.notify_all()

    def fileno(self) -> int:
        raise OSError("no descriptor")

    def isOpen(self) -> bool:
        return True

    def get_settings(self) -> dict[str, object]:
        return {}

    @property
    def in_waiting(self) -> int:
        return len(self._bytes)

    def read(self, size: int = 1) -> bytes:
        with self._received:
            self._received.wait_for(lambda: self._bytes, _POLL_S)
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
            return data

    def write(self, data: bytes) -> int:
        self.model.receive(data)
        return len(data)

    def reset_input_buffer(self) -> None:
        with self._received:
            self._bytes.clear()

    def reset_output_buffer(self) -> None:
        """Nothing waits there."""

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, on: bool) -> None:
        self._dtr = on
        self._lines()

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, on: bool) -> None:
        self._rts = on
        self._lines()

    def setDTR(self, on: bool) -> None:
        self.dtr = on

    def setRTS(self, on: bool) -> None:
        self.rts = on

    def _lines(self) -> None:
        if self._rts and not self._dtr:
            if self._rising:
                self._rising.cancel()
            self._held = True
            self.model.download = False  # held in reset: it hears nothing
        elif self._held:
            self._held = False
            self._rising = threading.Timer(EN_RISE_S, self._start)
            self._rising.start()

    def _start(self) -> None:
        if not self._held:
            self.model.reset(download=self._dtr and not self._rts)


class _UsbModelPort(_ModelPort):
    """The chip's own USB Serial/JTAG: DTR and RTS are read by its controller, not by transistors.

    ESP32-C3 TRM, "USB Serial/JTAG Controller", table "Reset SoC into Download Mode": (RTS, DTR) =
    (0, 0) clears the download flag, (0, 1) sets it, (1, 0) resets the chip, (1, 1) does nothing.
    """

    _flag = False

    def _lines(self) -> None:
        if not self._rts:
            self._flag = self._dtr
        elif not self._dtr:
            self.model.reset(download=self._flag)


class _PortManager(EspPortManager):
    def _reset_thread(self) -> None:
        # As where a port has no ioctl to set both lines at once (EspPortManager on Windows).
        ClassicReset(self.serial, DEFAULT_RESET_DELAY)()


class Rfc2217Line:
    """A serial server as Espressif's esp_rfc2217_server is one, with the chip's model behind it.

    With ``native_usb`` it is a plain one, which passes each change of DTR and RTS on: the chip's
    own USB does not mind how long they take. Where the board is unplugged it hangs up, as
    Espressif's does; it is back, and runs its application, when the server is called again.
    """

    def __init__(self, model: EspModel, *, native_usb: bool = False) -> None:
        self.model = model
        self._gone = threading.Event()
        model.unplug = self._gone.set
        self._port = _UsbModelPort(model) if native_usb else _ModelPort(model)
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        if not native_usb:
            # Espressif's server does not answer for DTR and RTS, and says so (esptool's
            # documentation, "Remote Serial Ports").
            self.url += "?ign_set_control"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_POLL_S)
        lock = threading.Lock()

        class Peer:
            def write(self, data: bytes) -> None:
                with lock:
                    connection.sendall(data)

        peer = Peer()
        manager = self._manager(peer)
        self._open = True
        reader = threading.Thread(target=self._read, args=(peer, manager), daemon=True)
        reader.start()
        try:
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    data = connection.recv(65536)
                    if not data:
                        return
                    self._port.write(b"".join(manager.filter(data)))
                    if self._gone.is_set():
                        self._gone.clear()
                        self.model.reset(download=False)
                        return
        finally:
            self._open = False
            reader.join()

    def _manager(self, peer: object) -> PortManager:
        if isinstance(self._port, _UsbModelPort):
            return PortManager(self._port, peer)
        return _PortManager(self._port, peer, esp32r0_delay=False)

    def _read(self, peer: object, manager: PortManager) -> None:
        while self._open and not self._stop.is_set():
            data = self._port.read(65536)
            if data:
                with contextlib.suppress(OSError):
                    peer.write(b"".join(manager.escape(data)))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()
