# Handfast mTLS for MicroPython: mutual TLS with the board's own certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""The names an application needs; each is imported when it is first asked for."""

__version__ = "0.1.0"

_HOMES = {"Session": "client", "Agent": "agent", "Store": "store", "MTLSError": "errors"}


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


def preload(*more):
    """Import what stays, and `more`, one module at a time into a swept heap.

    mbedTLS wants 17 KB in one piece, and modules compiled in between would stand in its way.
    """
    from gc import collect

    from micropython import opt_level

    from .heap import RESIDENTS, VISITORS, make_room

    level = opt_level()
    opt_level(3)  # as manifest.py freezes it: no line numbers, 4 KB more of free heap
    try:
        # Names are never freed: those of the visitors go to the bottom of the heap, at once.
        for name in VISITORS:
            __import__("mtls." + name)
            make_room()
        for name in RESIDENTS + list(more):
            collect()
            __import__("mtls." + name)
    finally:
        opt_level(level)
    collect()
