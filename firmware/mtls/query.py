# Handfast mTLS for MicroPython: names and values in a URL's query, and in a form
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

_UNRESERVED = const(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _quote(value):
    octets = value if isinstance(value, bytes) else str(value).encode()
    return "".join([chr(octet) if octet in _UNRESERVED else "%%%02X" % octet for octet in octets])


def encode(fields):
    """Return "a=b&c=d" of a dict or of pairs; a list stands for several, None for none."""
    words = []
    for name, values in fields.items() if hasattr(fields, "items") else fields:
        for value in values if isinstance(values, (list, tuple)) else (values,):
            if value is not None:
                words.append(_quote(name) + "=" + _quote(value))
    return "&".join(words)
