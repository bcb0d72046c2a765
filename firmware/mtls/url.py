# Handfast mTLS for MicroPython: the parts of an absolute URL
# MIT license; Copyright (c) 2026 the Handfast authors

from .errors import ConfigError


def _bad(key, why):
    raise ConfigError("%s %s" % (key, why))


def split_url(url, schemes=("https", "http"), key="url"):
    """Return (scheme, host, port, path) of an absolute URL without user, query or fragment."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        _bad(key, "must start with " + " or ".join([s + "://" for s in schemes]))
    authority, _, path = rest.partition("/")
    host, port = authority, "443" if scheme == "https" else "80"
    if authority.startswith("["):  # an IPv6 literal
        host, _, tail = authority[1:].partition("]")
        if tail:
            port = tail[1:] if tail[0] == ":" else ""
    elif ":" in authority:
        host, port = authority.split(":", 1)
    for char in authority:
        if not "!" <= char <= "~":
            host = ""
    if not host or "@" in authority or "?" in rest or "#" in rest:
        _bad(key, "must be scheme://host:port/path")
    if not port.isdigit() or not 0 < int(port) < 65536:
        _bad(key, "has a port that is none")
    return scheme, host, int(port), "/" + path
