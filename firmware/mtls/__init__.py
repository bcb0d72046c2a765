# Handfast mTLS for MicroPython: mutual TLS with the board's own certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""The names an application needs; each is imported when it is first asked for."""

__version__ = "0.1.0"

_HOMES = {
    "Session": "client",
    "Agent": "agent",
    "Store": "store",
    "MTLSError": "errors",
    "preload": "loading",
}


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
