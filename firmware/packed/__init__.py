# Handfast mTLS for MicroPython: mutual TLS with the board's own certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""The package of a packed library: its modules are in one deflated file beside this one.

They are shown to MicroPython as a read-only filesystem, so that it imports them as any others. The
file's form is in host/handfast/boards/packed_library.py. What this package has not is asked of the
library's own, whose globals begin with no underscore; so these do.
"""

from deflate import RAW as _RAW
from deflate import DeflateIO as _DeflateIO
from struct import unpack as _unpack

_POINT = "/mtls.z"


class _Packed:
    def __init__(self, path):
        self.path = path
        self.names = self.begin()[2].decode()

    def begin(self):
        # Read anew for each module: the file may be another one by now.
        file = open(self.path, "rb")
        count = file.read(1)[0]
        places = _unpack("<%dH" % count, file.read(2 * count))
        inflated = _DeflateIO(file, _RAW, 12, True)
        return inflated, places, inflated.readline(), file

    def stat(self, path):
        # Whatever is raised here is taken for a module that is not there. So it takes no heap, and
        # does not jump: at a jump MicroPython looks for Ctrl-C.
        self.names.index(path)
        return (0x8000, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def open(self, path, _):
        inflated, places, names, file = self.begin()
        place = places[names[: names.index(path.encode())].count(b"/")]
        left = min(place, places[-1])
        some = bytearray(64)
        while left:
            left -= inflated.readinto(some, min(64, left))
        if place > places[-1]:
            file.seek(place - places[-1])
        return inflated

    def ilistdir(self, _):
        return iter(())

    def mount(self, *_):
        pass

    umount = mount


def _client():
    from vfs import mount, umount

    packed = _Packed(__path__ + "/library.z")
    try:
        umount(_POINT)  # of an import that failed
    except OSError:
        pass
    mount(packed, _POINT)


_client()
__path__ = _POINT
from . import client as _client  # noqa: E402 - there it is


def __getattr__(name):
    return getattr(_client, name)
