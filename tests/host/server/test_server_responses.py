"""The response writer: framing that fits the request, and nothing an application could smuggle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from handfast.gateway.server.problem import PROBLEMS, HttpRefusal
from handfast.gateway.server.response import InvalidResponse, ResponseWriter, refusal_bytes

Headers = Sequence[tuple[bytes, bytes]]


def write(
    *pieces: bytes,
    status: int = 200,
    headers: Headers = (),
    method: str = "GET",
    version: str = "1.1",
) -> tuple[ResponseWriter, bytes]:
    writer = ResponseWriter(method=method, http_version=version)
    writer.start(status, headers, keep_alive=True)
    last = len(pieces) - 1
    return writer, b"".join(writer.body(p, more=n < last) for n, p in enumerate(pieces))


def fields(raw: bytes) -> dict[bytes, bytes]:
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return dict(line.lower().split(b": ", 1) for line in lines)


def test_a_body_of_known_length_goes_out_as_it_is() -> None:
    writer, raw = write(b"ab", b"c", headers=[(b"Content-Length", b"3")])
    assert raw.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n")
    assert raw.endswith(b"\r\n\r\nabc")
    assert writer.complete
    assert writer.keep_alive


def test_a_body_of_unknown_length_goes_out_in_chunks() -> None:
    _, raw = write(b"a" * 16, b"", b"b")
    assert fields(raw)[b"transfer-encoding"] == b"chunked"
    assert raw.endswith(b"\r\n\r\n10\r\n" + b"a" * 16 + b"\r\n1\r\nb\r\n0\r\n\r\n")


def test_http_1_0_gets_no_chunks_but_the_end_of_the_connection() -> None:
    writer, raw = write(b"ab", version="1.0")
    assert raw.endswith(b"\r\n\r\nab")
    assert not writer.keep_alive
    assert fields(raw)[b"connection"] == b"close"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_what_has_no_body_gets_none(method: str, status: int) -> None:
    headers = [(b"content-length", b"3")] if status != 204 else []
    writer, raw = write(b"abc", status=status, headers=headers, method=method)
    assert raw.endswith(b"\r\n\r\n")
    assert b"transfer-encoding" not in fields(raw)
    assert writer.keep_alive


@pytest.mark.parametrize(
    "header",
    [
        (b"x-name", b"a\r\nset-cookie: b"),
        (b"x-name", b"a\nb"),
        (b"x-name", b"a\x00"),
        (b"x name", b"a"),
        (b"x-name:", b"a"),
        (b"", b"a"),
        (b"content-length", b"1, 2"),
        (b"content-length", b"-1"),
    ],
)
def test_a_header_that_could_split_the_response_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidResponse):
        ResponseWriter(method="GET", http_version="1.1").start(200, [header], keep_alive=True)


def test_framing_is_the_servers_and_closing_also_the_applications() -> None:
    writer, raw = write(b"", headers=[(b"transfer-encoding", b"gzip"), (b"connection", b"close")])
    assert fields(raw)[b"transfer-encoding"] == b"chunked"
    assert raw.count(b"connection: close") == 1
    assert not writer.keep_alive


def test_a_body_beyond_its_length_is_refused_and_a_shorter_one_is_marked() -> None:
    with pytest.raises(InvalidResponse):
        write(b"abcd", headers=[(b"content-length", b"3")])
    writer, _ = write(b"ab", headers=[(b"content-length", b"3")])
    assert writer.truncated


@pytest.mark.parametrize("status", [100, 101, 199, 600, 0])
def test_only_final_statuses_are_accepted(status: int) -> None:
    with pytest.raises(InvalidResponse):
        ResponseWriter(method="GET", http_version="1.1").start(status, [], keep_alive=True)


def test_messages_out_of_order_are_refused() -> None:
    writer = ResponseWriter(method="GET", http_version="1.1")
    with pytest.raises(InvalidResponse):
        writer.body(b"", more=False)
    writer.start(200, [], keep_alive=True)
    with pytest.raises(InvalidResponse):
        writer.start(200, [], keep_alive=True)
    writer.body(b"", more=False)
    with pytest.raises(InvalidResponse):
        writer.body(b"", more=False)


@pytest.mark.parametrize("slug", PROBLEMS)
def test_a_refusal_is_a_whole_response_that_closes(slug: str) -> None:
    raw = refusal_bytes(HttpRefusal(slug))
    _, _, body = raw.partition(b"\r\n\r\n")
    assert raw.startswith(f"HTTP/1.1 {PROBLEMS[slug][0]} ".encode())
    assert fields(raw)[b"connection"] == b"close"
    assert int(fields(raw)[b"content-length"]) == len(body)
    assert f'"urn:handfast:error:{slug}"'.encode() in body
