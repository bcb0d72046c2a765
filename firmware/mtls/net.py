# Handfast mTLS for MicroPython: bring the network up, before anything else, and keep it up
# MIT license; Copyright (c) 2026 the Handfast authors
"""Also why it comes first: the ESP32's random numbers are only good with its radio on."""

import os
import time

from micropython import const

from . import tls
from .errors import Unreachable
from .plan import backoff_ms

_CONNECT_MS = const(15000)
_POLL_MS = const(100)
_WATCH_MS = const(1000)


def radio_on():
    """Switch the radio on, if the board has one, before a key is made: see above."""
    try:
        from network import STA_IF, WLAN
    except ImportError:
        return
    WLAN(STA_IF).active(True)


class _Station:
    """A Wi-Fi network as Network sees it: start, ready, stop."""

    def __init__(self, ssid, password):
        import network

        self.name = ssid
        self._password = password
        self._none = getattr(network.WLAN, "PM_NONE", None)
        self._saved = None
        self._wlan = network.WLAN(network.STA_IF)
        self._wlan.active(True)

    def start(self):
        if not self.ready():
            self._wlan.connect(self.name, self._password)

    def ready(self):
        return self._wlan.isconnected() and self._wlan.config("ssid") == self.name

    def stop(self):
        self._wlan.disconnect()

    def awake(self, on):
        """Have the radio listen all the time, which a handshake's many turns want, or as before."""
        try:
            if on:
                self._saved = self._wlan.config("pm")
                self._wlan.config(pm=self._none)
            elif self._saved is not None:
                self._wlan.config(pm=self._saved)
        except (OSError, TypeError, ValueError):
            pass  # a port that has no such setting


class Network:
    """Keeps the board on the first of config.json's networks that works: see `step`.

    `name` is the network's (an SSID, or "ethernet") while the board is on it, else None; a board
    with an empty list has its network already. `failures` counts rounds in which none worked.
    """

    def __init__(self, store):
        self.name = None
        self.failures = 0
        self._store = store
        self._networks = store.config()["networks"]
        self._at = 0
        self._link = None
        self._until = 0
        self._adopt()

    def _adopt(self):
        """Begin with the network that a soft reset left the station on."""
        if not any(isinstance(network, str) for network in self._networks):
            return
        import network

        station = network.WLAN(network.STA_IF)
        station.active(True)
        if station.isconnected() and station.config("ssid") in self._networks:
            self._at = self._networks.index(station.config("ssid"))

    def step(self):
        """Do what is due, without waiting for it; return the ms until the next call.

        A network has 15 s to come up, then it is the next one's turn; after the last one there is
        a pause, longer each round. A network that is lost is tried first.
        """
        if not self._networks:
            return _WATCH_MS
        if self._link is None:
            self._begin()
            return _POLL_MS
        try:
            ready = self._link.ready()
        except OSError:
            ready = False
        if ready:
            self._arrived()
            return _WATCH_MS
        if self.name is not None:
            self._leave()
            return _POLL_MS
        if time.ticks_diff(self._until, time.ticks_ms()) > 0:
            return _POLL_MS
        return self._next()

    def _begin(self):
        network = self._networks[self._at]
        self._until = time.ticks_add(time.ticks_ms(), _CONNECT_MS)
        if isinstance(network, str):
            self._link = _Station(network, self._store.wifi_password(network))
        else:
            from .ethernet import Port

            self._link = Port(network)
        try:
            self._link.start()
        except OSError:  # a station that is still busy with another network, a chip without power
            self._until = time.ticks_ms()

    def _arrived(self):
        if self.name is None:
            self.name = self._link.name
            self.failures = 0
            tls.awake = getattr(self._link, "awake", None)

    def _leave(self):
        self.name = tls.awake = None
        self._link = None

    def _next(self):
        """Give this network up; return the ms until the next one's turn."""
        try:
            self._link.stop()
        except OSError:
            pass  # it had not begun
        self._link = None
        self._at = (self._at + 1) % len(self._networks)
        if self._at:
            return _POLL_MS
        self.failures += 1
        return backoff_ms(self.failures, 0, os.urandom(1)[0])

    def up(self):
        """Wait until the board is on a network; return its name, None when none is configured.

        Raises Unreachable when none of them works.
        """
        failures = self.failures
        while self._networks:
            wait_ms = self.step()
            if self.name is not None:
                return self.name
            if self.failures != failures:
                names = [n if isinstance(n, str) else "ethernet" for n in self._networks]
                raise Unreachable("no network: none of %s can be joined" % ", ".join(names))
            time.sleep_ms(wait_ms)
        return None


def up(store):
    """Wait until the board is on its network, as Network(store).up()."""
    return Network(store).up()
