"""The device's sans-IO HTTP/1.1."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls.errors import ProtocolError
from mtls.http import ResponseParser, request_head

RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "bare-newlines": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
}


class Reader:
    """Feeds a parser as a session does, and gathers the body."""

    def __init__(self, method="GET", *, room=16, **options):
        self.parser = ResponseParser(method, **options)
        self.body = b""
        self._room = room

    def feed(self, data):
        while data:
            portion, data = data[: len(self.parser.buf)], data[len(self.parser.buf) :]
            self.parser.buf[: len(portion)] = portion
            self.parser.filled(len(portion))
            self._drain()

    def eof(self):
        self.parser.filled(0)

    def _drain(self):
        out = bytearray(self._room)
        while self.parser.head() and (n := self.parser.pull(out)):
            self.body += out[:n]

    def __getattr__(self, name):
        return getattr(self.parser, name)


def parse(data, method="GET", **options):
    reader = Reader(method, **options)
    reader.feed(data)
    return reader


def split_at(data, cuts):
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", RESPONSES)
@given(data=st.data())
def test_any_split_of_a_response_parses_alike(name, data):
    raw = RESPONSES[name]
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    parser = Reader(buffer_bytes=data.draw(st.integers(1, 64)), room=data.draw(st.integers(1, 8)))
    for piece in split_at(raw, cuts):
        parser.feed(piece)
    assert parser.done
    assert (parser.status, parser.body, parser.keep_alive) == (200, b"hello", True)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_end_in_a_response_or_a_protocol_error_whatever_the_split(raw, cuts):
    def outcome(pieces):
        parser = Reader()
        try:
            for piece in pieces:
                parser.feed(piece)
            parser.eof()
        except ProtocolError:
            return None
        return parser.status, parser.body

    assert outcome([raw]) == outcome(split_at(raw, [min(c, len(raw)) for c in cuts]))


def test_a_response_without_length_ends_with_the_connection():
    parser = parse(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert not parser.done
    parser.eof()
    assert parser.done
    assert parser.body == b"hello"
    assert not parser.keep_alive


@pytest.mark.parametrize("cut", range(1, len(RESPONSES["length"])))
def test_a_connection_that_closes_early_is_an_error(cut):
    parser = parse(RESPONSES["length"][:cut])
    with pytest.raises(ProtocolError):
        parser.eof()


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"),
    ],
)
def test_responses_that_never_have_a_body_are_whole_after_their_head(method, head):
    parser = parse(head, method)
    assert parser.done
    assert not parser.body
    assert parser.keep_alive


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [("1.1", "close", False), ("1.1", "keep-alive", True), ("1.0", "keep-alive", True)],
)
def test_the_connection_header_decides_about_keep_alive(version, connection, kept):
    head = f"HTTP/{version} 200 OK\r\nConnection: {connection}\r\nContent-Length: 0\r\n\r\n"
    assert parse(head.encode()).keep_alive is kept


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : blank before colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n000000001\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 100 C\r\n\r\n" * 9,
    ],
)
@pytest.mark.parametrize("portion", [512, 7, 3, 1])
def test_a_lying_response_is_refused(raw, portion):
    with pytest.raises(ProtocolError):
        parse(raw, buffer_bytes=portion)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 " + b"x" * 5000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100,
        b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * 20,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * 101,
    ],
    ids=["line", "count", "bytes", "trailers", "length", "until-close", "chunk"],
)
@pytest.mark.parametrize("portion", [512, 7])
def test_limits_hold_however_the_response_grows(raw, portion):
    with pytest.raises(ProtocolError):
        parse(raw, max_body_bytes=100, buffer_bytes=portion)


@pytest.mark.parametrize("portion", [512, 7, 3, 1])
def test_repeated_headers_are_joined_and_names_fold(portion):
    raw = b"HTTP/1.1 200 Fine\r\nA-B: 1\r\na-b: 2\r\nContent-Length: 0\r\n\r\n"
    parser = parse(raw, buffer_bytes=portion)
    assert (parser.reason, parser.headers["a-b"]) == ("Fine", "1, 2")


def test_a_request_carries_host_and_length():
    raw = request_head("POST", "h:1", "/x", [("A", "b")], 2)
    assert raw == b"POST /x HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 2\r\n\r\n"


def test_a_header_may_be_a_number():
    assert b"\r\nX-Count: 5\r\n" in request_head("GET", "h", "/", {"X-Count": 5})


def test_a_post_without_body_says_so():
    assert b"Content-Length: 0\r\n" in request_head("POST", "h", "/")
    assert b"Content-Length" not in request_head("GET", "h", "/")


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a\r\nX: y", []), ("/a b", []), ("/", [("A", "b\nC: d")]), ("/", [("A\r\n", "b")])],
)
def test_a_request_cannot_be_split_by_its_values(target, headers):
    with pytest.raises(ProtocolError):
        request_head("GET", "h", target, headers)


@pytest.mark.parametrize("name", ["", ":", "A:", "A B", "A\t"])
def test_what_is_no_name_of_a_header_is_refused(name):
    with pytest.raises(ProtocolError):
        request_head("GET", "h", "/", [(name, "b")])


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-ENCODING"])
def test_headers_that_the_library_sets_are_refused_by_name(name):
    """Twice on the wire, a server and what stands before it may each take another one."""
    with pytest.raises(ProtocolError, match=name):
        request_head("POST", "h", "/", {name: "7"}, 2)


def test_a_header_may_be_bytes_or_a_number_and_none_is_left_out():
    headers = {"A": b"Basic x", "B": None, "C": 5}
    assert request_head("GET", "h", "/", headers) == (
        b"GET / HTTP/1.1\r\nHost: h\r\nA: Basic x\r\nC: 5\r\n\r\n"
    )
