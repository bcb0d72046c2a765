# Handfast mTLS for MicroPython: where a Location or an absolute URL leads, within one origin
# MIT license; Copyright (c) 2026 the Handfast authors

from .errors import ProtocolError


def follow(call, status, location, authority):
    """Make the call one to where a redirect leads."""
    if not call.redirects:
        raise ProtocolError("too many redirects, the last one to " + location)
    call.redirects -= 1
    call.target = resolve(location, authority, call.target)
    if call.method != "HEAD" and (status == 303 or (status < 303 and call.method == "POST")):
        call.method = "GET"  # as browsers and requests do
        call.body = None
        headers = call.headers
        pairs = headers.items() if hasattr(headers, "items") else headers
        call.headers = [pair for pair in pairs if not pair[0].lower().startswith("content-")]
        call.idempotent = True
    elif not call.repeatable():
        raise ProtocolError("a redirect of a body that cannot be sent twice")


def resolve(location, authority, target):
    """Return the request target that `location` stands for (RFC 3986 5.2).

    `authority` is the host and port of the origin, over https; `target` is what it is relative to.
    Raises ProtocolError if it leads elsewhere: the board's certificate and data stay here.
    """
    location = location.partition("#")[0]
    if location.startswith("//"):
        location = "https:" + location
    if ":" in location.partition("/")[0].partition("?")[0]:  # it begins with a scheme
        location = _within(location, authority)
    path, mark, query = location.partition("?")
    base = target.partition("?")[0]
    if not path:
        path = base
        if not mark:
            return target
    elif not path.startswith("/"):
        path = base[: base.rfind("/") + 1] + path
    return _without_dots(path) + mark + query


def _within(url, authority):
    scheme, _, rest = url.partition("://")
    end = min([at for at in (rest.find("/"), rest.find("?"), len(rest)) if at >= 0])
    host = rest[:end].lower()
    if host.endswith(":443"):
        host = host[:-4]
    if scheme.lower() != "https" or host != authority.lower():
        raise ProtocolError("%s is not below https://%s" % (url, authority))
    path = rest[end:]
    return path if path.startswith("/") else "/" + path


def _without_dots(path):
    kept = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
