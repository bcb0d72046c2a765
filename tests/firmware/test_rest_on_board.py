"""What applications do with mtls.Session, on MicroPython: bodies, pieces, retries, redirects."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from device_interpreter import run_script
from hostile_peer import OK, Peer, answer, drip, flood, read_request, serving
from test_client_on_board import server_ca, server_context

Rest = Callable[..., list[object]]


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return server_context(tmp_path)


@pytest.fixture
def rest(micropython: Path, tmp_path: Path) -> Rest:
    root = tmp_path / "mtls"
    (root / "anchor").mkdir(parents=True)
    (root / "anchor" / "tls-0.der").write_bytes(server_ca().make().public_bytes(Encoding.DER))

    def run(port: int, lines: str, base: str = "", **options: object) -> list[object]:
        url = f"https://127.0.0.1:{port}{base}"
        (tmp_path / "lines.py").write_text(lines)  # an argument holds 255 characters at most
        arguments = ("rest.py", str(root), url, json.dumps(options), "lines.py")
        printed = run_script(micropython, *arguments, cwd=tmp_path)
        return json.loads(printed[-1])

    return run


class Echo:
    """Answers each request with a JSON of what it was; a body may come in chunks."""

    def __call__(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while line := stream.readline():
            method, target, _ = line.decode().split()
            headers: dict[str, str] = {}
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            chunked = headers.get("transfer-encoding") == "chunked"
            body = b"" if chunked else stream.read(int(headers.get("content-length", 0)))
            while chunked and (size := int(stream.readline(), 16)):
                body += stream.read(size)
                stream.readline()
            if chunked:
                stream.readline()
            seen = {"method": method, "target": target, "headers": headers, "body": body.decode()}
            said = b"" if method == "HEAD" else json.dumps(seen).encode()
            head = b"HTTP/1.1 200 OK\r\nX-Method: %s\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % (method.encode(), len(said)) + said)


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    head = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {code} X\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def by_target(answers: dict[str, bytes], seen: list[str]) -> Peer:
    def serve(connection: socket.socket) -> None:
        while request := read_request(connection):
            method, target, _ = request.decode().split(" ", 2)
            seen.append(f"{method} {target}")
            connection.sendall(answers[target])

    return serve


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"1000\r\n" + bytes(4096) + b"\r\n"


def endless(connection: socket.socket) -> None:
    """Answer the first request as any, so that the second one's time has no handshake in it."""
    read_request(connection)
    connection.sendall(OK)
    read_request(connection)
    connection.sendall(ENDLESS)
    flood(connection, CHUNK)


def test_a_body_that_never_ends_and_never_pauses_ends_at_the_total(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
session.get("/warm")
r = session.get("/x", stream=True, timeout_ms=1500)
buf = bytearray(512)
try:
    while r.readinto(buf):
        pass
except mtls.MTLSError as error:
    out.append(str(error))
"""
    with serving(endless, context=context) as (port, _):
        [error] = rest(port, lines)
    assert "in time" in error


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_every_method_goes_out_by_its_name(
    rest: Rest, context: ssl.SSLContext, method: str
) -> None:
    with serving(Echo(), context=context) as (port, _):
        [seen] = rest(port, f"out.append(session.{method}('/x').json())", base="/api/")
    assert (seen["method"], seen["target"]) == (method.upper(), "/api/x")


def test_code_written_for_requests_runs_with_another_import_and_constructor(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
session.headers.update({"X-Site": "roof"})
with session as s:
    r = s.post(url + "/items", params={"q": "a b&c", "n": [1, 2]}, json={"on": True})
    r.raise_for_status()
    out.append([r.ok, r.status_code, r.reason, r.headers["CONTENT-length"] == str(len(r.content))])
    out.append(r.json())
    r = s.post("/form", data={"a": "1 2", "b": "&"}, headers={"x-site": "cellar"})
    out.append(r.json())
    out.append(s.head("/x").headers["X-Method"])
"""
    with serving(Echo(), context=context) as (port, connections):
        facts, seen, form, head = rest(port, lines)
    assert facts == [True, 200, "OK", True]
    assert seen["target"] == "/items?q=a%20b%26c&n=1&n=2"
    assert json.loads(seen["body"]) == {"on": True}
    assert seen["headers"]["content-type"] == "application/json"
    assert seen["headers"]["x-site"] == "roof"
    assert form["body"] == "a=1%202&b=%26"
    assert form["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert form["headers"]["x-site"] == "cellar"
    assert head == "HEAD"
    assert len(connections) == 1


def test_what_requests_takes_by_position_is_taken_by_position(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
out.append(session.get("/a", {"q": 1}, headers=None).json()["target"])
out.append(session.post("/a", b"abc").json()["body"])
out.append(session.post("/a", None, {"on": True}).json()["body"])
out.append(session.put("/a", "text").json()["body"])
out.append(session.patch("/a", {"a": 1}, headers={"X-A": "b"}).json()["body"])
try:
    session.delete("/a", b"body")
except TypeError:
    out.append("no more")
"""
    with serving(Echo(), context=context) as (port, _):
        found = rest(port, lines)
    assert found == ["/a?q=1", "abc", '{"on": true}', "text", "a=1", "no more"]


def test_headers_go_out_as_requests_sends_them_or_not_at_all(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
session.headers["X-Site"] = "roof"
headers = {"Authorization": b"Basic x", "X-Site": None, "X-Number": 5}
out.append(session.get("/a", headers=headers).json()["headers"])
for name in ("host", "Content-Length", "X:A", ""):
    try:
        session.post("/a", data=b"abc", headers={name: "7"})
    except MTLSError as error:
        out.append(type(error).__name__)
session.headers["Host"] = "evil.example"
session.get("/a")
"""
    with serving(Echo(), context=context) as (port, _):
        seen, *refused, last = rest(port, lines)
    assert seen["authorization"] == "Basic x"
    assert seen["x-number"] == "5"
    assert "x-site" not in seen
    assert refused == ["ProtocolError"] * 4
    assert last[0] == "ProtocolError"
    assert "Host" in last[1]


def test_a_method_may_be_written_in_any_case(rest: Rest, context: ssl.SSLContext) -> None:
    """It is what it is: the body's length and what may be sent again go by it."""
    lines = """
out.append(session.request("post", "/a").json())
r = session.request("head", "/a")
out.append([r.status_code, r.content == b""])
out.append(session.get("/b").json()["method"])
"""
    with serving(Echo(), context=context) as (port, connections):
        posted, head, after = rest(port, lines)
    assert posted["method"] == "POST"
    assert posted["headers"]["content-length"] == "0"
    assert head == [200, True]
    assert after == "GET"
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("data", "body", "chunked"),
    [
        ("b'abc' * 400", "abc" * 400, False),
        ("bytearray(b'abc')", "abc", False),
        ("'text'", "text", False),
        ("io.BytesIO(b'0123456789' * 300)", "0123456789" * 300, False),
        ("open('upload', 'rb')", "file" * 700, False),
        ("io.BytesIO(b'')", "", False),
        ("(b'%d,' % n for n in range(300))", "".join(f"{n}," for n in range(300)), True),
        ("iter([b'a', b'', 'b'])", "ab", True),
    ],
)
def test_bodies_of_every_kind_arrive_whole(
    rest: Rest, context: ssl.SSLContext, tmp_path: Path, data: str, body: str, chunked: bool
) -> None:
    (tmp_path / "upload").write_text("file" * 700)
    lines = f"out.append(session.post('/x', data={data}).json())\nsession.get('/y')"
    with serving(Echo(), context=context) as (port, connections):
        [seen] = rest(port, lines)
    assert seen["body"] == body
    assert ("transfer-encoding" in seen["headers"]) is chunked
    assert len(connections) == 1


def test_a_body_is_read_in_pieces_and_the_connection_kept(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
with session.get("/x", stream=True) as r:
    out.append([len(piece) for piece in r.iter_content(1000)])
buf = bytearray(1500)
r = session.get("/x", stream=True)
out.append([r.readinto(buf) > 0, len(r.content)])
r = session.get("/x")
out.append([sum(len(p) for p in r.iter_content(7)), len(r.content), r.readinto(buf)])
"""
    whole = status(200, body=b"x" * 2500)
    with serving(answer(whole), context=context) as (port, connections):
        pieces, rest_of_it, again = rest(port, lines)
    assert sum(pieces) == 2500
    assert max(pieces) <= 1000
    assert rest_of_it[0]
    assert again == [2500, 2500, 0]
    assert len(connections) == 1


def test_a_body_that_was_not_read_is_given_up_by_the_next_request(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
first = session.get("/x", stream=True)
out.append(first.readinto(bytearray(9)))
out.append(len(session.get("/x").content))
for read in (lambda: first.readinto(bytearray(9)), lambda: first.content):
    try:
        out.append(read())
    except MTLSError as error:
        out.append([type(error).__name__, str(error)])
session.get("/x", stream=True).close()
out.append(len(session.get("/x").content))
"""
    with serving(answer(status(200, body=b"x" * 3000)), context=context) as (port, connections):
        said = ["Unreachable", "the body was given up before its end"]
        assert rest(port, lines) == [9, 3000, said, said, 3000]
    assert len(connections) == 3


def test_a_body_that_broke_off_has_no_end_later_either(rest: Rest, context: ssl.SSLContext) -> None:
    lines = """
r = session.get("/x", stream=True)
buf = bytearray(20)
for read in (r.readinto, r.readinto, r.readinto, lambda buf: r.content):
    try:
        out.append(read(buf))
    except MTLSError as error:
        out.append([type(error).__name__, str(error).split(" ", 1)[1]])
"""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + b"x" * 20
    with serving(answer(half, close=True), context=context) as (port, _):
        said = rest(port, lines)
    given_up = ["Unreachable", "body was given up before its end"]
    broke_off = ["ProtocolError", "response broke off in the middle"]
    assert said == [20, broke_off, given_up, given_up]


@pytest.mark.parametrize("head", ["Content-Length: 1000000", "Transfer-Encoding: chunked", ""])
def test_a_large_body_takes_no_more_memory_than_a_small_one(
    rest: Rest, context: ssl.SSLContext, head: str
) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % (head.encode() or b"A: b"))
        piece = b"x" * 10_000
        if "chunked" in head:
            piece = b"2710\r\n" + piece + b"\r\n"
        for _ in range(100):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n" if "chunked" in head else b"")

    lines = """
r = session.get("/x", stream=True)
buf = bytearray(1024)
r.readinto(buf)
gc.collect()
start = gc.mem_alloc()
total = most = 0
while True:
    n = r.readinto(buf)
    if not n:
        break
    total += n
    if not total & 15:
        gc.collect()
        most = max(most, gc.mem_alloc() - start)
gc.collect()
out.append([total > 990000, max(most, gc.mem_alloc() - start)])
"""
    with serving(serve, context=context) as (port, _):
        [[whole, grown]] = rest(port, lines, timeout_ms=60_000)
    assert whole
    assert grown < 1024


def test_a_keep_alive_get_leaves_under_1500_bytes_of_garbage(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
start = 0  # the dictionary of names does not grow between the two readings
for n in range(3):
    session.get("/v1/ping")
gc.collect()
gc.disable()
start = gc.mem_alloc()
session.get("/v1/ping")
out.append(gc.mem_alloc() - start)
"""
    body = b'{"device_id":"board-1","ok":1}'
    said = status(200, "Content-Type: application/json", "Cache-Control: no-store", body=body)
    with serving(answer(said), context=context) as (port, _):
        [garbage] = rest(port, lines)
    assert garbage < 1500


def test_a_large_upload_takes_no_more_memory_than_a_small_one(
    rest: Rest, context: ssl.SSLContext
) -> None:
    def serve(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while stream.readline() not in (b"\r\n", b""):
            pass
        total = 0
        while size := int(stream.readline(), 16):
            total += len(stream.read(size))
            stream.readline()
        connection.sendall(status(200, body=str(total).encode()))

    lines = """
most = 0
def pieces():
    global most
    piece = bytes(1000)
    yield piece
    gc.collect()
    start = gc.mem_alloc()
    for n in range(500):
        if not n & 15:
            gc.collect()
            most = max(most, gc.mem_alloc() - start)
        yield piece
out.append(session.post("/x", data=pieces()).text)
out.append(most)
"""
    with serving(serve, context=context) as (port, _):
        total, grown = rest(port, lines, timeout_ms=60_000)
    assert total == "501000"
    assert grown < 2048


def test_a_body_over_the_limit_is_refused_unless_it_is_read_in_pieces(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
def trial(**options):
    try:
        r = session.get("/x", **options)
        out.append(len(r.content) if options.get("whole", True) else 0)
    except mtls.MTLSError as error:
        out.append(type(error).__name__)
trial()
trial(max_body_bytes=3000)
trial(stream=True)
trial(stream=True, max_body_bytes=3000)
trial(stream=True, max_body_bytes=100)
"""
    with serving(answer(status(200, body=b"x" * 3000)), context=context) as (port, _):
        outcomes = rest(port, lines, max_body_bytes=2000)
    bad = "ProtocolError"
    assert outcomes == [bad, 3000, bad, 3000, bad]


def test_answers_without_a_body_leave_the_connection_open(
    rest: Rest, context: ssl.SSLContext
) -> None:
    raw = {
        "/204": b"HTTP/1.1 204 No\r\n\r\n",
        "/304": b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n",
        "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    }
    lines = """
for r in (session.get("/204"), session.get("/304"), session.head("/head")):
    out.append([r.status_code, r.content == b"", r.readinto(bytearray(4))])
"""
    with serving(by_target(raw, []), context=context) as (port, connections):
        assert rest(port, lines) == [[204, True, 0], [304, True, 0], [200, True, 0]]
    assert len(connections) == 1


def test_an_error_page_over_the_limit_says_its_status(rest: Rest, context: ssl.SSLContext) -> None:
    with serving(answer(status(404, body=b"x" * 3000)), context=context) as (port, _):
        [[kind, said]] = rest(port, "session.get('/x')", max_body_bytes=2000)
        assert rest(port, "out.append(session.get('/x', max_body_bytes=4000).ok)") == [False]
    assert kind == "ProtocolError"
    assert "404" in said


# Retries


def test_a_busy_server_is_asked_again_as_it_asked_for(rest: Rest, context: ssl.SSLContext) -> None:
    lines = "start = time.ticks_ms()\nout.append(session.post('/x', data=b'1').status_code)\n"
    lines += "out.append(time.ticks_diff(time.ticks_ms(), start))"

    def busy_once(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(status(503, "Retry-After: 1"))
        read_request(connection)
        connection.sendall(OK)

    with serving(busy_once, context=context) as (port, connections):
        code, took_ms = rest(port, lines, retries=2)
    assert code == 200
    assert took_ms >= 1000
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("call", "retries", "asked"),
    [
        ("get('/x')", 2, 3),
        ("get('/x')", 0, 1),
        ("post('/x')", 2, 1),
        ("post('/x', idempotent=True)", 2, 3),
        ("put('/x', data=iter([b'once']))", 2, 1),
    ],
)
def test_what_a_failing_server_is_sent_again(
    rest: Rest, context: ssl.SSLContext, call: str, retries: int, asked: int
) -> None:
    seen: list[int] = []

    def fail(connection: socket.socket) -> None:
        read_request(connection)
        seen.append(1)
        connection.sendall(status(502, "Connection: close"))
        while connection.recv(4096):
            pass

    with serving(fail, context=context) as (port, _):
        assert rest(port, f"out.append(session.{call}.status_code)", retries=retries) == [502]
    assert len(seen) == asked


@pytest.mark.parametrize(
    ("call", "asked"), [("get('/x')", 3), ("post('/x')", 1), ("post('/x', idempotent=True)", 3)]
)
def test_a_busy_server_that_does_not_say_when_is_sent_no_post_again(
    rest: Rest, context: ssl.SSLContext, call: str, asked: int
) -> None:
    seen: list[str] = []
    answers = {"/x": status(503)}
    with serving(by_target(answers, seen), context=context) as (port, _):
        assert rest(port, f"out.append(session.{call}.status_code)", retries=2) == [503]
    assert len(seen) == asked


def test_a_retry_that_does_not_fit_the_deadline_is_not_waited_for(
    rest: Rest, context: ssl.SSLContext
) -> None:
    with serving(answer(status(503, "Retry-After: 3600")), context=context) as (port, seen):
        assert rest(port, "out.append(session.get('/x').status_code)", retries=5) == [503]
    assert len(seen) == 1


def test_even_a_post_is_sent_again_when_there_was_no_connection(rest: Rest) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.close()

    # The first two connections end before a handshake: nothing can have been sent.
    with serving(hang_up) as (port, seen):
        [error] = rest(port, "session.post('/x')", retries=2)
    assert error[0] == "Unreachable"
    assert len(seen) == 3


def test_the_deadline_spans_all_tries_and_pauses(rest: Rest, context: ssl.SSLContext) -> None:
    lines = """
start = time.ticks_ms()
try:
    session.get("/x")
except mtls.MTLSError as error:
    out.append([type(error).__name__, time.ticks_diff(time.ticks_ms(), start)])
"""

    def silent(connection: socket.socket) -> None:
        read_request(connection)
        time.sleep(5)

    with serving(silent, context=context) as (port, seen):
        [[kind, took_ms]] = rest(port, lines, timeout_ms=1500, read_timeout_ms=300, retries=50)
    assert kind == "Unreachable"
    assert took_ms < 3000
    assert len(seen) > 1


@pytest.mark.parametrize("options", [{"read_timeout_ms": 500}, {"timeout_ms": 500}])
def test_a_body_of_a_byte_at_a_time_ends_at_its_deadline(
    rest: Rest, context: ssl.SSLContext, options: dict[str, int]
) -> None:
    def slow(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\nX-Long: ")
        drip(connection, b"x" * 300)

    lines = """
start = time.ticks_ms()
try:
    session.get("/x")
except mtls.MTLSError as error:
    out.append([type(error).__name__, time.ticks_diff(time.ticks_ms(), start)])
"""
    with serving(slow, context=context) as (port, _):
        [[kind, took_ms]] = rest(port, lines, **options)
    assert kind == "Unreachable"
    assert 400 < took_ms < 3000


def test_a_handshake_has_a_deadline_of_its_own(rest: Rest) -> None:
    def slow(connection: socket.socket) -> None:
        drip(connection, b"\x16\x03\x03\x40\x00" + bytes(200))

    with serving(slow) as (port, _):
        [error] = rest(port, "session.get('/x')", handshake_timeout_ms=300, timeout_ms=60_000)
    assert error[0] == "Unreachable"
    assert "handshake" in error[1]


# Redirects


def test_redirects_within_the_origin_are_followed(rest: Rest, context: ssl.SSLContext) -> None:
    seen: list[str] = []
    answers = {
        "/a/one": status(302, "Location: two?x=1"),
        "/a/two?x=1": status(307, "Location: /b/../three"),
        "/three": status(200, body=b"there"),
        "/post": status(303, "Location: /three"),
        "/loop": status(301, "Location: /loop"),
        "/none": status(301),
    }
    lines = """
out.append(session.get("/a/one").text)
out.append(session.post("/post").text)
out.append(session.get("/a/one", allow_redirects=False).status_code)
out.append(session.get("/none").status_code)
session.get("/loop")
"""
    with serving(by_target(answers, seen), context=context) as (port, connections):
        outcomes = rest(port, lines)
    assert outcomes[:4] == ["there", "there", 302, 301]
    assert outcomes[4][0] == "ProtocolError"
    assert seen[:3] == ["GET /a/one", "GET /a/two?x=1", "GET /three"]
    assert seen[3:5] == ["POST /post", "GET /three"]
    assert seen.count("GET /loop") == 6
    assert len(connections) == 1


@pytest.mark.parametrize(
    "location",
    ["https://127.0.0.2:{port}/", "http://127.0.0.1:{port}/", "//evil.example/", "data:,x"],
)
def test_a_redirect_to_another_origin_is_refused(
    rest: Rest, context: ssl.SSLContext, location: str
) -> None:
    seen: list[str] = []
    answers: dict[str, bytes] = {}
    with serving(by_target(answers, seen), context=context) as (port, connections):
        answers["/x"] = status(302, "Location: " + location.format(port=port))
        [error] = rest(port, "session.get('/x')")
    assert error[0] == "ProtocolError"
    assert "is not below" in error[1]
    assert seen == ["GET /x"]
    assert len(connections) == 1


def test_a_server_that_refuses_a_body_halfway_is_heard(rest: Rest, context: ssl.SSLContext) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(status(413, "Connection: close"))
        while connection.recv(65536):
            pass

    lines = "out.append(session.post('/x', data=iter([bytes(1000)] * 50)).status_code)"
    with serving(refuse, context=context) as (port, _):
        assert rest(port, lines) == [413]


# As requests does


def test_a_response_is_true_if_it_is_a_success(rest: Rest, context: ssl.SSLContext) -> None:
    lines = """
for path in ("/200", "/304", "/404"):
    r = session.get(path)
    out.append([r.ok, bool(r)])
"""
    answers = {"/200": OK, "/304": b"HTTP/1.1 304 No\r\n\r\n", "/404": status(404)}
    with serving(by_target(answers, []), context=context) as (port, _):
        assert rest(port, lines) == [[True, True], [True, True], [False, False]]


def test_a_body_that_is_no_text_or_not_here_yet_is_said_to_be_that(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = """
import asyncio
import mtls.aio
r = session.get("/x")
for read in (lambda: r.text, r.json):
    try:
        read()
    except MTLSError as error:
        out.append([type(error).__name__, str(error)])
async def run():
    async with mtls.aio.Session(url, store, identity=None) as s:
        late = await s.get("/x", stream=True)
        for read in (lambda: late.text, late.json):
            try:
                read()
            except ValueError as error:
                out.append(str(error))
asyncio.run(run())
"""
    with serving(answer(status(200, body=b"\xff\xfe")), context=context) as (port, _):
        text, document, *late = rest(port, lines)
    assert text == document == ["ProtocolError", "the response's body is not UTF-8"]
    assert late == ["the body is not here yet: await load() first"] * 2


@pytest.mark.parametrize("size", [0, -1])
def test_pieces_of_no_size_are_a_value_error(
    rest: Rest, context: ssl.SSLContext, size: int
) -> None:
    lines = f"""
import asyncio
import mtls.aio
async def run():
    async with mtls.aio.Session(url, store, identity=None) as s:
        async for piece in (await s.get("/x")).iter_content({size}):
            pass
for read in (lambda: list(session.get("/x").iter_content({size})), lambda: asyncio.run(run())):
    try:
        read()
    except ValueError as error:
        out.append("chunk_size" in str(error))
"""
    with serving(answer(OK), context=context) as (port, _):
        assert rest(port, lines) == [True, True]
