# Handfast mTLS for MicroPython: bring the network up, before anything else
# MIT license; Copyright (c) 2026 the Handfast authors
"""Also why it comes first: the ESP32's random numbers are only good with its radio on."""

import time

from micropython import const

from .errors import Unreachable

_CONNECT_MS = const(15000)
_POLL_MS = const(100)


def radio_on():
    """Switch the radio on, if the board has one, before a key is made: see above."""
    try:
        from network import STA_IF, WLAN
    except ImportError:
        return
    WLAN(STA_IF).active(True)


def _join(station, ssid, password):
    try:
        station.connect(ssid, password)
    except OSError:
        return False  # a station that is still busy with another network
    start = time.ticks_ms()
    while not station.isconnected():
        if time.ticks_diff(time.ticks_ms(), start) > _CONNECT_MS:
            station.disconnect()
            return False
        time.sleep_ms(_POLL_MS)
    return True


def up(store):
    """Join the first Wi-Fi network that works; return its SSID, None when none is configured.

    Raises Unreachable when none of them does. A board with an empty list has its network already.
    """
    networks = store.config()["networks"]
    if not networks:
        return None
    import network

    station = network.WLAN(network.STA_IF)
    station.active(True)
    if station.isconnected():
        return station.config("ssid")
    for ssid in networks:
        if _join(station, ssid, store.wifi_password(ssid)):
            return ssid
    raise Unreachable("no Wi-Fi: none of %s can be joined" % ", ".join(networks))
