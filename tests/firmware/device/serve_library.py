# Has the library used from the other end of stdin and stdout.
# ruff: noqa: SIM115  (MicroPython)
import sys

from far import End
from mtls import errors


class Modules:
    """sys.modules itself: a dict would go by value."""

    def get(self, name, default=None):
        return sys.modules.get(name, default)

    def __setitem__(self, name, module):
        sys.modules[name] = module

    def __delitem__(self, name):
        del sys.modules[name]


sys.modules["device_modules"] = Modules()
# By their numbers: the simulator's sys.stdin is a serial port, of which lines end otherwise.
End(open(0, "rb"), open(1, "wb"), errors.__dict__).serve()
