# Handfast mTLS for MicroPython: mutual TLS with the board's own certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""The names an application needs; each is imported when it is first asked for."""

__version__ = "0.1.0"

_HOMES = {"Session": "client", "Agent": "agent", "Store": "store", "MTLSError": "errors"}
_RESIDENTS = "errors plan http url store tls call client drbg clock agent".split()
# Needed once a boot or once in a leaf's life, and for no call; and what few boards ever need.
_VISITORS = "config entropy timesync tsp x509 der pkcs7 est keys p256 _p256_table".split()
_STRANGERS = "anchors cacerts csrattrs ntp problem provision retry rollover witness".split()


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    # MicroPython asks here for submodules too, before it looks for their files.
    home = _HOMES.get(name, name)
    try:
        module = __import__("mtls." + home, None, None, (name,))
    except ImportError:
        raise AttributeError(name)
    return module if home == name else getattr(module, name)


def make_room():
    """Let go of the modules that are needed only now and then: TLS takes half of a board's heap.

    They hold no state. The next import reads them again.
    """
    from gc import collect
    from sys import modules

    for name in _VISITORS + _STRANGERS:
        modules.pop("mtls." + name, None)
        globals().pop(name, None)
    collect()


def preload(*more):
    """Import what stays, and `more`, one module at a time into a swept heap.

    mbedTLS wants 17 KB in one piece, and modules compiled in between would stand in its way.
    """
    from gc import collect

    from micropython import opt_level

    level = opt_level()
    opt_level(3)  # as manifest.py freezes it: no line numbers, 4 KB more of free heap
    try:
        # Names are never freed: those of the visitors go to the bottom of the heap, at once.
        for name in _VISITORS:
            __import__("mtls." + name)
            make_room()
        for name in _RESIDENTS + list(more):
            collect()
            __import__("mtls." + name)
    finally:
        opt_level(level)
    collect()
