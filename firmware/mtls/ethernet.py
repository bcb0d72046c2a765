# Handfast mTLS for MicroPython: Ethernet ports of config.json
# MIT license; Copyright (c) 2026 the Handfast authors
"""Imported only where `networks` names one, {"ethernet": kind, ...}, numbers being pins:

- kind "LAN8720", or another of the PHYs that MicroPython's ESP32 port knows (network.PHY_...), with
  mdc, mdio, phy_addr, and power where the board switches the PHY's supply;
- kind "WIZNET5K" (W5500-EVB-Pico), with spi (the bus), cs, reset.

MicroPython 1.25.0 and 1.26.1, library/network.LAN (the ESP32's arguments in esp32/quickref,
"Networking") and library/network.WIZNET5K.
"""

from .errors import ConfigError


def _numbers(settings, *names):
    values = [settings.get(name) for name in names]
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 256:
            raise ConfigError("config.json: an Ethernet port must have numbers " + ", ".join(names))
    return values


def _open(settings):
    import network
    from machine import Pin

    kind = settings["ethernet"]
    if kind == "WIZNET5K":
        from machine import SPI

        bus, cs, reset = _numbers(settings, "spi", "cs", "reset")
        return network.WIZNET5K(SPI(bus), Pin(cs), Pin(reset))
    phy = getattr(network, "PHY_" + kind, None)
    if phy is None:
        raise ConfigError("config.json: this firmware has no Ethernet port " + kind)
    mdc, mdio, address = _numbers(settings, "mdc", "mdio", "phy_addr")
    options = {}
    if "power" in settings:
        options["power"] = Pin(_numbers(settings, "power")[0])
    return network.LAN(mdc=Pin(mdc), mdio=Pin(mdio), phy_type=phy, phy_addr=address, **options)


_ports = {}  # a driver is made once a boot


class Port:
    """An Ethernet port as net.Network sees it: start, ready, stop."""

    name = "ethernet"

    def __init__(self, settings):
        key = settings["ethernet"]
        if key not in _ports:
            _ports[key] = _open(settings)
        self._lan = _ports[key]

    def start(self):
        self._lan.active(True)

    def ready(self):
        return self._lan.isconnected()

    def stop(self):
        self._lan.active(False)
