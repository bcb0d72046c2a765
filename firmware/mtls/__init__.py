# Handfast mTLS for MicroPython: mutual TLS with the board's own certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""The names an application needs; each is imported when it is first asked for."""

__version__ = "0.1.0"

_HOMES = {"Session": "client", "Agent": "agent", "Store": "store", "MTLSError": "errors"}
# In the order that leaves the largest free piece: 49 KB of the sim-pico-w's heap, where the order
# of the layers leaves 25. What is compiled last takes the holes of what came before.
_MODULES = (
    "errors plan http store tls call client agent x509 tsp url secrets est timesync keys p256 drbg"
    " pkcs7 clock der"
).split()

_PASSING = ["heap", "drift", "window", "config"]


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


def unload(*names):
    """Give the heap of modules back that are needed once in a while; an import loads them again."""
    from sys import modules

    for name in names:
        if modules.pop("mtls." + name, None):
            delattr(modules["mtls"], name)


def preload(*more):
    """Import all that the agent needs, and `more`, one module at a time into a swept heap.

    mbedTLS wants 17 KB in one piece, and modules compiled in between would stand in its way.
    """
    from gc import collect

    from micropython import opt_level

    level = opt_level()
    opt_level(3)  # as manifest.py freezes it: no line numbers, 4 KB more of free heap
    try:
        # First what is loaded and unloaded later: the names in it stay, and here in one place.
        for name in _PASSING + _MODULES + list(more):
            collect()
            __import__("mtls." + name)
            if name in _PASSING:
                unload(name)
    finally:
        opt_level(level)
    collect()
