"""HTTP and what a session decides, on CPython and each device interpreter, by the same script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from test_http_parser import RESPONSES

BAD = [
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 2x0 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n" + b"x" * 65,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * 65,
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Len",
    b"HTTP/1.1 200 OK\r\nA: \xff\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
]
LOCATIONS = {
    "d?x": "/a/b/d?x",
    "../d": "/a/d",
    "/./x/../y/": "/y/",
    "": "/a/b/c?q=1",
    "?z": "/a/b/c?z",
    "https://gw:8443/x#f": "/x",
    "https://gw/x": None,
    "http://gw:8443/": None,
    "//evil/": None,
}
RETRY_AFTER = {
    "7": 7000,
    "99999999999": 86_400_000,
    "Sun, 06 Nov 1994 08:49:47 GMT": 10_000,
    "-1": 0,
    "soon": 0,
}
SUNDAY = 784_111_777  # 1994-11-06T08:49:37Z


def test_every_interpreter_decides_alike(
    run_device: Callable[..., list[str]], tmp_path: Path
) -> None:
    good = [*RESPONSES.values(), b"HTTP/1.1 200 OK\r\nX-A: b\r\nx-a: c\r\n\r\nhello"]
    given = {
        "responses": [raw.hex() for raw in [*good, *BAD]],
        "portions": [[512, 64], [1, 1], [3, 2], [7, 64]],
        "locations": list(LOCATIONS),
        "retry_after": list(RETRY_AFTER),
        "now": SUNDAY,
        "fields": {"a b": ["1", "&=", None], "é": 2},
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    [line] = run_device("http_and_call.py", "given.json")
    found = json.loads(line)
    for outcomes in found["responses"][: len(good)]:
        assert {json.dumps(one) for one in outcomes} == {json.dumps(outcomes[0])}
        assert (outcomes[0][0], outcomes[0][3]) == (200, "hello")
    assert found["responses"][len(good) - 1][0][2] == "b, c"
    assert all(one is None for outcomes in found["responses"][len(good) :] for one in outcomes)
    assert found["locations"] == list(LOCATIONS.values())
    assert found["retry_after"] == list(RETRY_AFTER.values())
    assert found["backoff"][:3] == [250, 500, 1000]
    assert set(found["query"].split("&")) == {"a%20b=1", "a%20b=%26%3D", "%C3%A9=2"}
