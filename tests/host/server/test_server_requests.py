"""The request parser: exact bounds, nothing ambiguous, and no dependence on how bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.gateway.server.http import END, Data, EndOfMessage, Request, RequestParser
from handfast.gateway.server.limits import Limits
from handfast.gateway.server.problem import HttpRefusal

SMALL = Limits(max_header_bytes=512, max_headers=8, max_target_bytes=64, max_body_bytes=256)


def parse(pieces: list[bytes], limits: Limits = SMALL) -> list[Request | bytes | str]:
    """Return requests, whole bodies and at last the slug of a refusal."""
    parser = RequestParser(limits)
    found: list[Request | bytes | str] = []
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            while (event := parser.next_event()) is not None:
                if isinstance(event, Request):
                    found.append(event)
                elif isinstance(event, Data):
                    body += event.data
                elif isinstance(event, EndOfMessage):
                    found.append(body)
                    body = b""
                    parser.next_message()
    except HttpRefusal as refusal:
        found.append(refusal.slug)
    return found


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def refusal(*lines: str, body: bytes = b"") -> str:
    found = parse([head(*lines) + body])[-1]
    assert isinstance(found, str), f"accepted: {found}"
    return found


# How it arrives does not matter

BODIES = st.binary(max_size=100)
CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A request's bytes and its body."""
    path = draw(st.sampled_from(["/", "/a/b", "/a%20b?c=d"]))
    if draw(st.booleans()):
        body = draw(BODIES)
        lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}"]
        return head(*lines) + body, body
    chunks = draw(CHUNKS)
    extension = draw(st.sampled_from([b"", b";a=b"]))
    raw = b"".join(b"%x%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    trailer = draw(st.sampled_from([b"", b"X-Trailer: 1\r\n"]))
    lines = [f"PUT {path} HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"]
    return head(*lines) + raw + b"0\r\n" + trailer + b"\r\n", b"".join(chunks)


@given(st.lists(messages(), min_size=1, max_size=4), st.data())
def test_any_split_of_the_bytes_gives_the_same_requests(
    sent: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(raw for raw, _ in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = parse([stream])
    assert parse(pieces) == whole
    assert [part for part in whole if isinstance(part, bytes)] == [body for _, body in sent]


@given(st.binary(max_size=300), st.data())
def test_rubbish_is_refused_or_waits_but_never_crashes(raw: bytes, data: st.DataObject) -> None:
    begin = data.draw(
        st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"])
    )
    chunked = data.draw(st.sampled_from([b"", b"Transfer-Encoding: chunked\r\n\r\n"]))
    parse([begin + chunked + raw])


def test_one_byte_at_a_time_gives_the_same_request() -> None:
    raw = head("POST /x HTTP/1.1", "Host: a", "Content-Length: 3") + b"abc"
    assert parse([raw[i : i + 1] for i in range(len(raw))]) == parse([raw])


def test_nothing_after_a_message_is_looked_at_before_it_is_asked_for() -> None:
    parser = RequestParser(SMALL)
    parser.feed(head("GET / HTTP/1.1", "Host: a") + b"\xff rubbish")
    assert isinstance(parser.next_event(), Request)
    assert parser.next_event() is END
    assert parser.next_event() is None
    parser.next_message()
    with pytest.raises(HttpRefusal):
        parser.next_event()


# What may be read in two ways is refused (request smuggling)


@pytest.mark.parametrize(
    ("slug", "lines"),
    [
        ("bad-request", ["Content-Length: 3", "Content-Length: 3"]),
        ("bad-request", ["Content-Length: 3", "Content-Length: 4"]),
        ("bad-request", ["Content-Length: 3, 3"]),
        ("bad-request", ["Content-Length: +3"]),
        ("bad-request", ["Content-Length: -3"]),
        ("bad-request", ["Content-Length: 0x3"]),
        ("bad-request", ["Content-Length: 3_0"]),
        ("bad-request", ["Content-Length: "]),
        ("bad-request", ["Content-Length: \u00b2"]),
        ("bad-request", ["Content-Length: 3", "Transfer-Encoding: chunked"]),
        ("bad-request", ["Transfer-Encoding: chunked", "Content-Length: 3"]),
        ("bad-request", ["Transfer-Encoding: xchunked"]),
        ("bad-request", ["Transfer-Encoding: identity"]),
        ("bad-request", ["Transfer-Encoding: chunked, identity"]),
        ("unsupported-coding", ["Transfer-Encoding: gzip, chunked"]),
        ("bad-request", ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
        ("bad-request", ["Transfer-Encoding : chunked"]),
        ("bad-request", ["Transfer-Encoding: chunked\x0b"]),
        ("bad-request", [" Transfer-Encoding: chunked"]),
        ("bad-request", ["X: a", " Content-Length: 3"]),
        ("bad-request", ["X: a\nContent-Length: 3"]),
        ("bad-request", ["X: a\rContent-Length: 3"]),
        ("bad-request", ["X: a\x00b"]),
        ("bad-request", [": a"]),
        ("bad-request", ["X y: a"]),
        (
            "unsupported-coding",
            ["Connection: upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked"],
        ),
    ],
)
def test_an_ambiguous_head_is_refused(slug: str, lines: list[str]) -> None:
    found = refusal("POST / HTTP/1.1", "Host: a", *lines, body=b"3\r\nabc\r\n0\r\n\r\n")
    assert found == slug


def test_a_chunked_body_is_not_accepted_from_http_1_0() -> None:
    assert refusal("POST / HTTP/1.0", "Transfer-Encoding: chunked") == "bad-request"


@pytest.mark.parametrize(
    "body",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"\r\n",
        b"g\r\n",
        b"0\r\nX y: a\r\n\r\n",
    ],
)
def test_a_malformed_chunk_is_refused(body: bytes) -> None:
    lines = ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"]
    assert refusal(*lines, body=body) == "bad-request"


def test_a_trailer_cannot_forge_a_header() -> None:
    raw = head("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
    found = parse([raw + b"0\r\nAuthorization: Basic eA==\r\n\r\n"])
    assert isinstance(found[0], Request)
    assert [name for name, _ in found[0].headers] == [b"host", b"transfer-encoding"]


def test_the_body_of_an_upgrade_offer_is_not_taken_for_the_next_request() -> None:
    inner = head("GET /admin HTTP/1.1", "Host: a")
    lines = ["POST /x HTTP/1.1", "Host: a", "Connection: upgrade", "Upgrade: h2c"]
    found = parse([head(*lines, f"Content-Length: {len(inner)}") + inner])
    assert isinstance(found[0], Request)
    assert found[0].path == "/x"
    assert found[1:] == [inner]


# Bounds are exact


def test_a_head_of_just_the_allowed_size_passes_and_one_byte_more_does_not() -> None:
    empty = len(head("GET / HTTP/1.1", "Host: a", "X: "))
    room = SMALL.max_header_bytes - empty
    assert isinstance(parse([head("GET / HTTP/1.1", "Host: a", f"X: {'a' * room}")])[0], Request)
    found = refusal("GET / HTTP/1.1", "Host: a", f"X: {'a' * (room + 1)}")
    assert found == "headers-too-large"


def test_a_head_without_end_is_refused_at_the_bound() -> None:
    assert parse([b"GET / HTTP/1.1\r\nX: " + b"a" * 1000]) == ["headers-too-large"]


def test_one_header_field_too_many_is_refused() -> None:
    fields = [f"X-{n}: 1" for n in range(SMALL.max_headers)]
    assert isinstance(parse([head("GET / HTTP/1.1", "Host: a", *fields[1:])])[0], Request)
    assert refusal("GET / HTTP/1.1", "Host: a", *fields) == "headers-too-large"


def test_a_target_of_just_the_allowed_size_passes_and_one_byte_more_does_not() -> None:
    longest = "/" + "a" * (SMALL.max_target_bytes - 1)
    assert isinstance(parse([head(f"GET {longest} HTTP/1.1", "Host: a")])[0], Request)
    assert refusal(f"GET {longest}a HTTP/1.1", "Host: a") == "target-too-long"


def test_a_request_line_without_end_is_refused() -> None:
    assert parse([b"GET /" + b"a" * 200]) == ["target-too-long"]


def test_a_counted_body_is_refused_by_its_announced_length() -> None:
    lines = ["POST / HTTP/1.1", "Host: a"]
    most = SMALL.max_body_bytes
    assert isinstance(parse([head(*lines, f"Content-Length: {most}")])[0], Request)
    assert refusal(*lines, f"Content-Length: {most + 1}") == "body-too-large"
    assert refusal(*lines, f"Content-Length: {'9' * 19}") == "body-too-large"


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_long() -> None:
    lines = ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"]
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (SMALL.max_body_bytes, b"a" * SMALL.max_body_bytes)
    assert parse([head(*lines) + whole])[-1] == b"a" * SMALL.max_body_bytes
    more = b"%x\r\n%b" % (SMALL.max_body_bytes + 1, b"a" * (SMALL.max_body_bytes + 1))
    assert refusal(*lines, body=more) == "body-too-large"


@pytest.mark.parametrize(
    "flood", [b"1;" + b"a" * 2000, b"0\r\nX: " + b"a" * 2000, b"0\r\n" + b"X: a\r\n" * 400]
)
def test_extensions_and_trailers_are_bounded_too(flood: bytes) -> None:
    lines = ["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"]
    assert refusal(*lines, body=flood) == "body-too-large"


# Request line, Host and the rest


@pytest.mark.parametrize(
    ("slug", "line"),
    [
        ("http-version", "GET / HTTP/2.0"),
        ("http-version", "GET / HTTP/1.2"),
        ("http-version", "GET / HTTP/0.9"),
        ("bad-request", "GET /"),
        ("bad-request", "GET / RTSP/1.0"),
        ("bad-request", "GET  / HTTP/1.1"),
        ("bad-request", "GET / x HTTP/1.1"),
        ("bad-request", "get / HTTP/1.1"),
        ("bad-request", "NONSENSE / HTTP/1.1"),
        ("bad-request", "CONNECT a:443 HTTP/1.1"),
        ("bad-request", "GET a HTTP/1.1"),
        ("bad-request", "GET * HTTP/1.1"),
        ("bad-request", "GET /#x HTTP/1.1"),
        ("bad-request", "GET /\xe4 HTTP/1.1"),
        ("bad-request", "GET /%ff HTTP/1.1"),
        ("bad-request", "\x16\x03\x01\x02\x00"),
    ],
)
def test_a_bad_request_line_is_refused(slug: str, line: str) -> None:
    assert refusal(line, "Host: a") == slug


@pytest.mark.parametrize(
    "hosts", [[], ["Host: a", "Host: a"], ["Host: a b"], ["Host: a/b"], ["Host: a@b"]]
)
def test_http_1_1_has_exactly_one_valid_host(hosts: list[str]) -> None:
    assert refusal("GET / HTTP/1.1", *hosts, "X: a") == "bad-request"


@pytest.mark.parametrize("host", ["a", "a:80", "[::1]:8443", "10.0.2.2", ""])
def test_usual_hosts_pass(host: str) -> None:
    assert isinstance(parse([head("GET / HTTP/1.1", f"Host: {host}")])[0], Request)


def test_http_1_0_needs_no_host_and_closes_by_default() -> None:
    request = parse([head("GET / HTTP/1.0")])[0]
    assert isinstance(request, Request)
    assert not request.keep_alive


def test_an_absolute_target_replaces_the_host() -> None:
    request = parse([head("GET http://b:1/x?y HTTP/1.1", "Host: a")])[0]
    assert isinstance(request, Request)
    assert (request.path, request.query) == ("/x", b"y")
    assert request.headers == [(b"host", b"b:1")]


def test_a_path_is_decoded_and_its_raw_form_kept() -> None:
    request = parse([head("GET /a%2Fb%20c?q=%20 HTTP/1.1", "Host: a")])[0]
    assert isinstance(request, Request)
    assert (request.path, request.raw_path, request.query) == ("/a/b c", b"/a%2Fb%20c", b"q=%20")


def test_one_empty_line_before_a_request_is_forgiven_but_not_two() -> None:
    raw = head("GET / HTTP/1.1", "Host: a")
    for pieces in ([b"\r\n" + raw], [b"\r", b"\n", raw]):
        assert isinstance(parse(pieces)[0], Request)
    assert parse([b"\r\n\r\n" + raw]) == ["bad-request"]
    assert parse([b"\r\n", b"\r\n"]) == ["bad-request"]


def test_an_empty_line_counts_as_the_beginning_of_a_request() -> None:
    parser = RequestParser(SMALL)
    assert parser.between_messages
    parser.feed(b"\r\n")
    assert parser.next_event() is None
    assert not parser.between_messages


@pytest.mark.parametrize(
    ("line", "keeps"),
    [
        ("Connection: close", False),
        ("Connection: keep-alive, Close", False),
        ("Connection: keep-alive", True),
        ("X: a", True),
    ],
)
def test_a_client_may_ask_to_close(line: str, keeps: bool) -> None:
    request = parse([head("GET / HTTP/1.1", "Host: a", line)])[0]
    assert isinstance(request, Request)
    assert request.keep_alive is keeps


def test_only_one_expectation_is_known() -> None:
    lines = ["POST / HTTP/1.1", "Host: a", "Content-Length: 1"]
    request = parse([head(*lines, "Expect: 100-Continue")])[0]
    assert isinstance(request, Request)
    assert request.expects_continue
    assert refusal(*lines, "Expect: a-miracle") == "expectation-failed"
