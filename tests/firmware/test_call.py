"""What follows from a request's outcome, and what it carries: the pure parts."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls.call import Call
from mtls.errors import ProtocolError
from mtls.outgoing import dress
from mtls.query import encode
from mtls.redirect import resolve
from mtls.retry import backoff_ms, retry_after_ms
from mtls.upload import Upload

NOW = 1_800_000_000
AUTHORITY = "gw.example:8443"
words = st.text(st.characters(codec="utf-8"), max_size=12)


class Board:
    """Has the time and chance that a Session has."""

    authority = AUTHORITY

    def __init__(self, octets: bytes = b"\xff\xff") -> None:
        self.octets = lambda: octets

    def now(self) -> int:
        return NOW


def call(method: str = "GET", body: object = None, **options: object) -> Call:
    settings = {"headers": (), "idempotent": None, "retries": 3, "redirects": 5, **options}
    return Call(method, "/a/b", body=body, **settings)


# Again, or not


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"])
def test_a_request_that_the_peer_may_have_seen_is_repeated_only_if_that_is_harmless(
    method: str,
) -> None:
    asked = call(method)
    assert asked.after_failure(True, Board()) is not None
    asked.sent = True
    harmless = method not in ("POST", "PATCH")
    assert (asked.after_failure(False, Board()) is not None) is harmless
    assert (call(method).after_response(502, {}, Board()) is not None) is harmless


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH"])
@pytest.mark.parametrize("status", [200, 400, 404, 409, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("headers", [{}, {"retry-after": "1"}], ids=["bare", "retry-after"])
def test_what_a_status_has_sent_again(method: str, status: int, headers: dict[str, str]) -> None:
    """429 says that nothing was done, a 503 that it may come again if it says when; else nobody
    knows whether something was, and a POST is no request to do twice (RFC 9110 9.2.2, 10.2.3)."""
    invited = status == 429 or (status == 503 and bool(headers))
    perhaps = status in (502, 503, 504)
    harmless = method in ("GET", "PUT")
    again = call(method).after_response(status, headers, Board()) is not None
    assert again is (invited or (perhaps and harmless))
    told = call(method, idempotent=True).after_response(status, headers, Board()) is not None
    assert told is (invited or perhaps)
    once = call(method, idempotent=True, retries=0)
    assert once.after_response(status, headers, Board()) is None


def test_a_status_has_it_sent_again_no_more_often_than_retries_say() -> None:
    asked = call("POST", idempotent=True, retries=2)
    waits = [asked.after_response(503, {}, Board()) for _ in range(4)]
    assert [wait is None for wait in waits] == [False, False, True, True]


def test_a_stale_connection_costs_no_retry_and_counts_once() -> None:
    asked = call(retries=0)
    assert asked.after_failure(True, Board()) == 0
    assert asked.after_failure(True, Board()) is None


@given(st.integers(1, 60), st.binary(min_size=2, max_size=2))
def test_a_pause_is_chance_below_an_exponential_ceiling(failures: int, octets: bytes) -> None:
    ceiling = min(30_000, 500 * 2 ** (failures - 1))
    assert 0 <= backoff_ms(failures, octets) <= ceiling
    assert backoff_ms(failures, b"\0\0") == 0
    assert backoff_ms(failures, b"\xff\xff") == ceiling


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
def test_a_date_to_retry_after_is_understood(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    seconds = int(moment.timestamp()) - NOW
    asked = retry_after_ms(format_datetime(moment, usegmt=True), NOW)
    assert asked == 1000 * max(0, min(seconds, 86400))


@given(st.one_of(st.text(st.characters(max_codepoint=126)), st.integers().map(str)))
def test_any_retry_after_is_a_sane_pause(text: str) -> None:
    assert 0 <= retry_after_ms(text, NOW) <= 86_400_000


@pytest.mark.parametrize("text", ["-1", "soon", "", "1.5"])
def test_a_retry_after_that_makes_no_sense_is_none(text: str) -> None:
    assert retry_after_ms(text, NOW) == 0


def test_backoff_at_half_chance_is_half_the_ceiling() -> None:
    assert [backoff_ms(failures, b"\x80\x00") for failures in (1, 2, 3)] == [250, 500, 1000]


def test_retry_after_is_a_least_pause_and_chance_comes_on_top() -> None:
    assert call().after_response(503, {"retry-after": "2"}, Board(b"\0\0")) == 2000
    assert call().after_response(429, {"retry-after": "2"}, Board()) == 2500
    assert call("POST").after_response(429, {}, Board()) == 500
    assert call(retries=0).after_response(503, {}, Board()) is None
    assert call().after_response(500, {}, Board()) is None


# Elsewhere


@given(
    st.from_regex(r"(\.\./|\./|[a-z0-9]{1,3}/|/)*[a-z0-9.]{0,3}(\?[a-z=/.]{1,5})?", fullmatch=True)
)
def test_a_relative_location_leads_where_urllib_says(location: str) -> None:
    if "//" in location:
        return  # an authority, or the empty segment that urllib drops and RFC 3986 keeps
    expected = urlsplit(urljoin(f"https://{AUTHORITY}/a/b/c?q=1", location))
    query = f"?{expected.query}" if expected.query else ""
    assert resolve(location, AUTHORITY, "/a/b/c?q=1") == (expected.path or "/") + query


@given(words)
def test_any_location_stays_within_the_origin_or_is_refused(location: str) -> None:
    with suppress(ProtocolError):
        assert resolve(location, AUTHORITY, "/a").startswith("/")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("", "/a?q"),
        ("?z", "/a?z"),
        ("/./x/../y/", "/y/"),
        ("../d", "/d"),
        ("https://gw.example:8443", "/"),
        ("HTTPS://GW.example:8443/x?y#z", "/x?y"),
        ("https://gw.example:8443?y", "/?y"),
        ("//gw.example:8443/x", "/x"),
    ],
)
def test_a_location_within_the_same_origin_is_taken(location: str, target: str) -> None:
    assert resolve(location, AUTHORITY, "/a?q") == target


@pytest.mark.parametrize(
    "location",
    [
        "http://gw.example:8443/",
        "https://gw.example/",
        "https://gw.example:8443@evil.example/",
        "https://me@gw.example:8443/",
        "https://gw.example:8443.evil.example/",
        "//evil.example/",
        "https:gw.example",
        "mailto:a@b",
    ],
)
def test_a_location_of_another_origin_is_refused(location: str) -> None:
    with pytest.raises(ProtocolError):
        resolve(location, AUTHORITY, "/a")


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("PUT", 302, "PUT"),
        ("PUT", 303, "GET"),
        ("HEAD", 303, "HEAD"),
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
    ],
)
def test_a_redirect_keeps_or_drops_method_and_body(method: str, status: int, then: str) -> None:
    asked = call(method, b"body")
    assert asked.after_response(status, {"location": "c"}, Board()) == 0
    assert (asked.method, asked.target) == (then, "/a/c")
    assert (asked.body is None) is (method != then)


@pytest.mark.parametrize("status", [303, 307])
def test_a_body_that_is_dropped_takes_what_was_said_of_it_along(status: int) -> None:
    headers = {"Content-Type": "text/plain", "content-language": "de", "X-A": "b"}
    for either in (headers, list(headers.items())):
        asked = call("POST", b"body", headers=either)
        asked.after_response(status, {"location": "c"}, Board())
        kept = list(dict(asked.headers))
        wanted = ["X-A"] if status == 303 else [*headers]
        # A dict is in no order on a board; pairs are.
        assert kept == wanted if either is not headers else sorted(kept) == sorted(wanted)


def test_a_body_that_went_out_cannot_follow_a_redirect() -> None:
    asked = call("POST", Upload(iter([b"x"])))
    list(asked.pieces("h"))
    with pytest.raises(ProtocolError):
        asked.after_response(307, {"location": "c"}, Board())


# What it carries


@given(st.lists(st.tuples(words, words)))
def test_a_query_comes_back_as_it_was(pairs: list[tuple[str, str]]) -> None:
    encoded = encode(pairs)
    assert parse_qsl(encoded, keep_blank_values=True) == pairs
    assert not set(encoded) & set(' "<>#?\r\n/')


def test_a_query_of_a_dict_has_lists_none_and_names_of_any_letters() -> None:
    encoded = encode({"a b": ["1", "&=", None], "é": 2})
    assert set(encoded.split("&")) == {"a%20b=1", "a%20b=%26%3D", "%C3%A9=2"}


def test_params_join_a_query_that_is_there() -> None:
    assert dress("/x?a=1", {"b": None, "c": 2}, {}, (), None, None)[0] == "/x?a=1&c=2"


@given(st.dictionaries(words, words), st.dictionaries(words, words))
def test_a_request_s_own_headers_go_before_the_session_s(common: dict, own: dict) -> None:
    _, headers, _ = dress("/", None, common, own, {"a": 1}, None)
    names = [name.lower() for name, _ in headers]
    assert dict(headers).items() >= own.items()
    assert names.count("content-type") <= max(1, [*map(str.lower, own)].count("content-type"))


def unchunk(raw: bytes) -> bytes:
    stream, body = io.BytesIO(raw), b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        assert stream.readline() == b"\r\n"
    assert stream.read() == b"\r\n"
    return body


@given(st.lists(st.binary(max_size=50)))
def test_an_iterator_goes_out_in_chunks(pieces: list[bytes]) -> None:
    raw = b"".join(bytes(piece) for piece in call("PUT", Upload(iter(pieces))).pieces("h"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert unchunk(body) == b"".join(pieces)


@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_a_file_goes_out_from_where_it_stands_as_often_as_asked(data: bytes, start: int) -> None:
    file = io.BytesIO(data)
    file.seek(start)
    upload = Upload(file)
    for _ in range(2):
        assert upload.rewind()
        sent = b"".join(bytes(piece) for piece in call("PUT", upload).pieces("h"))
        head, _, body = sent.partition(b"\r\n\r\n")
        assert body == data[start:]
        assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_while_it_is_sent_is_an_error(change: int) -> None:
    file = io.BytesIO(b"12345")
    upload = Upload(file)
    file.truncate(5 + change) if change < 0 else file.write(b"123456")
    file.seek(0)
    with pytest.raises(ProtocolError):
        list(call("PUT", upload).pieces("h"))


def test_json_goes_out_as_json() -> None:
    _, headers, body = dress("/", None, {}, (), {"a": [1, None]}, None)
    assert json.loads(body) == {"a": [1, None]}
    assert headers == [("Content-Type", "application/json")]


def test_data_goes_before_json_as_in_requests() -> None:
    for data in (b"1", "1"):
        assert dress("/", None, {}, (), {"a": 1}, data) == ("/", [], b"1")
    for nothing in (None, b"", {}):
        assert dress("/", None, {}, (), {"a": 1}, nothing)[2] == b'{"a": 1}'
