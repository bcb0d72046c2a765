"""What a board with a radio has as ``network``, on a board that has none: joins what it is told.

Put on a simulated board as /network.py; the host's network is there all the time. When its radio is
first switched on, it notes in /radio what the board held by then.
"""

import os

STA_IF = 0


class WLAN:
    def __init__(self, _interface):
        self._ssid = None
        self._settings = {"pm": 1}

    def active(self, on):
        if on and "radio" not in os.listdir("/"):
            with open("/radio", "w") as file:
                file.write(" ".join(os.listdir("/mtls")))

    def connect(self, ssid, password):
        if not password:
            raise OSError("a password is needed")
        self._ssid = ssid

    def disconnect(self):
        self._ssid = None

    def isconnected(self):
        return self._ssid is not None

    def config(self, name=None, **changes):
        self._settings.update(changes)
        return self._ssid if name == "ssid" else self._settings.get(name)
