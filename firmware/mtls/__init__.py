# Handfast mTLS for MicroPython: mutual TLS with the board's own certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""The names an application needs; each is imported when it is first asked for."""

__version__ = "0.1.0"

_HOMES = {"Session": "client", "Agent": "agent", "Store": "store", "MTLSError": "errors"}


def __getattr__(name):
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    module = __import__("mtls." + home, None, None, (name,))
    value = getattr(module, name)
    globals()[name] = value
    return value
