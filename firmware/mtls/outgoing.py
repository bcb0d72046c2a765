# Handfast mTLS for MicroPython: what a request carries, from what the application gave
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

_JSON = const("application/json")
_FORM = const("application/x-www-form-urlencoded")


def dress(target, params, common, headers, json, data):
    """Return (target, headers, body) of a request, the body as a Call takes it.

    `common` are the session's headers, a dict; the request's own go before them.
    """
    if params:
        from .query import encode

        target += ("&" if "?" in target else "?") + encode(params)
    kind = None
    if json is not None and not data:
        from json import dumps

        data = dumps(json).encode()
        kind = _JSON
    elif data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
        data, kind = _body(data)
    return target, _merged(common, headers, kind), data


def _body(data):
    """Return (bytes or Upload, content type) of what is not bytes."""
    if isinstance(data, str):
        return data.encode(), None
    if isinstance(data, (dict, list, tuple)):
        from .query import encode

        return encode(data).encode(), _FORM
    from .upload import Upload

    return Upload(data), None


def _merged(common, headers, kind):
    pairs = list(headers.items() if hasattr(headers, "items") else headers)
    given = [name.lower() for name, _ in pairs]
    pairs += [(name, common[name]) for name in common if name.lower() not in given]
    if kind and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("Content-Type", kind))
    return pairs
