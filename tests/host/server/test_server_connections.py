"""A connection from its first request to its end, on real sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from handfast.gateway.server import Limits
from support_server import (
    Reader,
    Running,
    ask,
    get,
    mutual,
    plain,
    post,
    quick,
    serving,
    wait_for,
)
from support_server_pki import pki


def paths(running: Running) -> list[str]:
    return [scope["path"] for scope in running.app.scopes]


# One request after another


def test_requests_are_answered_one_after_another_on_one_connection() -> None:
    with serving() as running, running.connect() as connected:
        reader = Reader(connected)
        for path in ("/a", "/b", "/c"):
            connected.sendall(get(path))
            assert path in reader.answer().body.decode()


def test_pipelined_requests_are_answered_in_order() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(get("/a") + post("/b", b"xyz") + get("/c"))
        reader = Reader(connected)
        assert [reader.answer().body[:60].decode().split('"')[7] for _ in range(3)] == [
            "/a",
            "/b",
            "/c",
        ]


def test_a_pipelined_request_waits_until_the_one_before_is_answered() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(get("/hold") + get("/b"))
        wait_for(running.app.holding.is_set)
        assert paths(running) == ["/hold"]
        running.app.release.set()
        reader = Reader(connected)
        assert reader.answer().body == b"held"
        assert reader.answer().status == 200


def test_what_is_read_ahead_of_an_answer_is_bounded() -> None:
    """The client's writes come to a stand: kernel buffers fill up, ours does not."""
    with serving(plain(Limits(write_s=60))) as running, running.connect() as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        connected.sendall(get("/hold"))
        wait_for(running.app.holding.is_set)
        connected.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connected.sendall(get("/b") * 500_000)
        connection = next(iter(running.listener.connections))
        assert connection._parser.buffered < 64 * 1024


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_a_body_arrives_however_it_is_framed(framing: str) -> None:
    body = bytes(range(256)) * 40
    raw = post("/x", body)
    if framing == "chunked":
        head = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        raw = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with serving() as running:
        assert body.hex().encode() in ask(running, raw).body


def test_an_answer_before_the_bodys_end_does_not_end_the_connection() -> None:
    with serving() as running, running.connect() as connected:
        whole = post("/early", b"x" * 20_000)
        connected.sendall(whole[:5_000])
        reader = Reader(connected)
        assert reader.answer().status == 401
        connected.sendall(whole[5_000:] + get("/next"))
        assert reader.answer().status == 200
        assert paths(running) == ["/early", "/next"]


def test_a_client_that_waits_for_100_gets_it_when_the_body_is_wanted() -> None:
    with serving() as running, running.connect() as connected:
        raw = post("/x", b"body", "expect: 100-continue")
        connected.sendall(raw[:-4])
        reader = Reader(connected)
        assert reader.answer().status == 100
        connected.sendall(raw[-4:])
        assert b"body".hex().encode() in reader.answer().body


def test_a_client_that_waits_for_100_and_is_refused_never_sends_the_body() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(post("/early", b"body", "expect: 100-continue")[:-4])
        reader = Reader(connected)
        answer = reader.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert reader.at_end()


def test_head_is_answered_without_a_body() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(get("/x").replace(b"GET", b"HEAD") + get("/y"))
        reader = Reader(connected)
        answer = reader.answer(head_only=True)
        assert int(answer.headers["content-length"]) > 0
        assert reader.answer().status == 200


def test_http_1_0_is_answered_and_closed() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(b"GET / HTTP/1.0\r\n\r\n")
        reader = Reader(connected)
        assert reader.answer().headers["connection"] == "close"
        assert reader.at_end()


def test_a_connection_ends_after_its_last_allowed_request() -> None:
    limits = Limits(max_requests_per_connection=2)
    with serving(plain(limits)) as running, running.connect() as connected:
        connected.sendall(get() * 3)
        reader = Reader(connected)
        assert "connection" not in reader.answer().headers
        assert reader.answer().headers["connection"] == "close"
        assert reader.at_end()
        assert len(running.app.scopes) == 2


def test_a_large_answer_arrives_whole_over_tls() -> None:
    with serving(mutual()) as running, running.connect_tls(pki().device) as tls:
        tls.sendall(get("/stream"))
        assert Reader(tls).answer().body == b"x" * 64 * 65536


# What the server answers for the application


@pytest.mark.parametrize(
    ("raw", "status", "slug"),
    [
        (b"nonsense\r\n\r\n", 400, "bad-request"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "http-version"),
        (get("/" + "a" * 3000), 414, "target-too-long"),
        (get("/", "x: " + "a" * 20_000), 431, "headers-too-large"),
        (get("/", *["x: a"] * 100), 431, "headers-too-large"),
        (post("/", b"a" * 70_000), 413, "body-too-large"),
        (get("/boom"), 500, "internal"),
        (get("/silent"), 500, "internal"),
        (get("/inject"), 500, "internal"),
    ],
)
def test_the_servers_own_answers_are_problem_documents_that_close(
    raw: bytes, status: int, slug: str
) -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(raw)
        reader = Reader(connected)
        answer = reader.answer()
        assert (answer.status, answer.slug) == (status, slug)
        assert answer.headers["connection"] == "close"
        assert reader.at_end()
        running.log.wait("request", status=status, slug=slug)


def test_a_failing_application_is_logged_without_what_it_said() -> None:
    with serving() as running:
        ask(running, get("/boom", "authorization: Basic c3dvcmRmaXNo"))
        line = running.log.wait("application_failed")
        assert line["error"] == "RuntimeError"
        assert any("on_boom" in frame for frame in line["where"])
        assert "swordfish" not in str(running.log.lines)
        assert "c3dvcmRmaXNo" not in str(running.log.lines)


def test_an_answer_that_breaks_off_ends_in_a_reset_and_not_in_a_clean_close() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(get("/half"))
        with pytest.raises(ConnectionResetError):
            Reader(connected).answer()


# The client goes


def test_a_half_closed_client_still_gets_its_answer() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(get("/hold"))
        wait_for(running.app.holding.is_set)
        connected.shutdown(socket.SHUT_WR)
        running.app.release.set()
        reader = Reader(connected)
        assert reader.answer().body == b"held"
        assert reader.at_end()


def test_the_application_is_told_that_the_client_has_gone() -> None:
    with serving() as running:
        with running.connect() as connected:
            connected.sendall(get("/disconnect"))
            wait_for(running.app.holding.is_set)
        wait_for(lambda: running.app.messages == [{"type": "http.disconnect"}])


def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    with serving() as running:
        with running.connect() as connected:
            connected.sendall(post("/x", b"abcdef")[:-3])
            wait_for(lambda: running.app.scopes)
        wait_for(lambda: running.app.messages == [{"type": "http.disconnect"}])
        wait_for(lambda: running.open_connections == 0)


def test_sending_to_a_client_that_has_gone_is_an_oserror() -> None:
    with serving() as running:
        with running.connect() as connected:
            connected.sendall(get("/endless"))
            connected.recv(1)
        wait_for(lambda: running.app.send_errors)
        assert running.log.all("application_failed") == []
        wait_for(lambda: running.open_connections == 0)


# Closed from inside


def test_connections_are_closed_by_what_the_application_noted_of_them() -> None:
    with (
        serving(mutual()) as running,
        running.connect_tls(pki().device) as one,
        running.connect_tls(pki().device) as two,
    ):
        for tls, device_id in ((one, "board-1"), (two, "board-2")):
            tls.sendall(get())
            assert Reader(tls).answer().status == 200
            running.app.scopes[-1]["extensions"]["handfast"]["peer"].device_id = device_id
        assert running.close_connections(lambda peer: peer.device_id == "board-1") == 1
        assert Reader(one).at_end()
        two.sendall(get())
        assert Reader(two).answer().status == 200


def test_a_request_in_flight_is_not_answered_after_its_connection_was_closed() -> None:
    with serving(mutual()) as running, running.connect_tls(pki().device) as tls:
        tls.sendall(get("/hold"))
        wait_for(running.app.holding.is_set)
        digest = pki().device.sha256
        assert running.close_connections(lambda p: p.client_certificate_sha256 == digest) == 1
        assert Reader(tls).at_end()
        running.app.release.set()
        wait_for(lambda: running.app.send_errors)


def test_an_idle_connection_reads_a_clean_end_when_it_is_closed() -> None:
    with serving(mutual()) as running, running.connect_tls(pki().device) as tls:
        tls.sendall(get())
        Reader(tls).answer()
        running.close_connections(lambda _: True)
        assert tls.recv(1) == b""  # close_notify: not cut off, not reset


# Stopping


def test_stopping_answers_what_is_in_flight_and_closes_what_is_idle() -> None:
    with serving(mutual()) as running:
        with running.connect_tls(pki().device) as idle, running.connect_tls(pki().device) as busy:
            idle.sendall(get())
            Reader(idle).answer()
            busy.sendall(get("/hold"))
            wait_for(running.app.holding.is_set)
            port = running.port
            stopped = running.submit(running.server.stop(grace_s=10))
            assert Reader(idle).at_end()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
            running.app.release.set()
            reader = Reader(busy)
            answer = reader.answer()
            assert (answer.body, answer.headers["connection"]) == (b"held", "close")
            assert reader.at_end()
        stopped.result(10)
        assert running.open_connections == 0


def test_stopping_does_not_wait_longer_than_its_grace() -> None:
    with serving() as running, running.connect() as connected:
        connected.sendall(get("/hold"))
        wait_for(running.app.holding.is_set)
        running.submit(running.server.stop(grace_s=0.1)).result(5)
        wait_for(running.app.cancelled.is_set)
        assert Reader(connected).at_end()


def test_a_client_in_the_middle_of_its_body_does_not_hold_up_a_stop_for_ever() -> None:
    with serving(plain(Limits(body_s=60))) as running, running.connect() as connected:
        connected.sendall(post("/early", b"x" * 1000)[:-500])
        Reader(connected).answer()
        running.submit(running.server.stop(grace_s=5)).result(4)
        assert running.open_connections == 0


def test_an_application_that_cancels_itself_does_not_leave_its_connection_behind() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise asyncio.CancelledError

    with serving(app=app) as running, running.connect() as connected:
        connected.sendall(get())
        assert Reader(connected).at_end()
        wait_for(lambda: running.open_connections == 0)


def test_a_pipe_of_many_connections_leaves_nothing_behind() -> None:
    with serving(plain(quick())) as running:
        for _ in range(50):
            assert ask(running, get()).status == 200
        wait_for(lambda: running.open_connections == 0)
        assert running.call(running.listener.tasks) == frozenset()
