"""A context that lets sessions be resumed: for how long, by whom, and what does not end one."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from OpenSSL import SSL

from handfast.gateway.server import MAX_RESUMABLE_S, Listener, build_context
from handfast.gateway.server.session import prefer_signatures
from support_server import Reader, Running, client_context, get, serving, wait_for
from support_server_pki import pki

TLS_1_2 = ssl.TLSVersion.TLSv1_2


@contextmanager
def resuming(resumable_s: int = 60) -> Iterator[Running]:
    context = pki().context(resumable_s=resumable_s)
    with serving(Listener("api-resume", ("127.0.0.1", 0), context)) as running:
        yield running


class Client:
    """A device's TLS client that keeps the newest session, as firmware does."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._context = client_context(pki().device, version=TLS_1_2)
        self._session: ssl.SSLSession | None = None

    def call(self, end: Callable[[ssl.SSLSocket], None] = ssl.SSLSocket.close) -> bool:
        """Make one request and hang up by ``end``; return whether the session was resumed."""
        connected = self._running.connect()
        tls = self._context.wrap_socket(
            connected, server_hostname="localhost", session=self._session
        )
        with tls:
            tls.sendall(get())
            assert Reader(tls).answer().status == 200
            self._session, resumed = tls.session, bool(tls.session_reused)
            end(tls)
        wait_for(lambda: not self._running.open_connections)
        return resumed


def close_notify(tls: ssl.SSLSocket) -> None:
    tls.unwrap()


def plain_fin(tls: ssl.SSLSocket) -> None:
    """As MicroPython does: no close_notify."""
    tls.shutdown(socket.SHUT_RDWR)


def reset(tls: ssl.SSLSocket) -> None:
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("end", [close_notify, plain_fin])
def test_session_is_resumed_however_the_client_closed(end: Callable[[ssl.SSLSocket], None]) -> None:
    with resuming() as running:
        client = Client(running)
        assert [client.call(end) for _ in range(3)] == [False, True, True]
        peers = [scope["extensions"]["handfast"]["peer"] for scope in running.app.scopes]
        assert [peer.resumed for peer in peers] == [False, True, True]
        leaf = pki().device.certificate
        assert {peer.client_certificate for peer in peers} == {leaf}


def test_reset_costs_no_more_than_a_full_handshake() -> None:
    with resuming() as running:
        client = Client(running)
        client.call(reset)
        client.call()
        assert client.call()


def test_server_that_closes_first_keeps_the_session() -> None:
    with resuming() as running:
        client = Client(running)
        client.call(lambda _tls: running.close_connections(lambda _peer: True) and None)
        assert client.call()


def test_session_is_forgotten_after_its_time() -> None:
    with resuming(resumable_s=1) as running:
        client = Client(running)
        client.call()
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + 2.1)
        assert not client.call()


def test_new_context_knows_no_session_of_the_old() -> None:
    with resuming() as running:
        client = Client(running)
        client.call()
        assert client.call()
        running.call(running.listener.swap_context, pki().context(resumable_s=60))
        assert not client.call()


def test_unknown_signature_is_refused() -> None:
    with pytest.raises(ValueError, match="rsa_pkcs1_sha255"):
        prefer_signatures(SSL.Context(SSL.TLS_SERVER_METHOD), "rsa_pkcs1_sha255")


@pytest.mark.parametrize("resumable_s", [-1, MAX_RESUMABLE_S + 1])
def test_session_lives_an_hour_at_most(resumable_s: int) -> None:
    assert MAX_RESUMABLE_S == 3600
    with pytest.raises(ValueError, match="at most 3600 s"):
        pki().context(resumable_s=resumable_s)


@pytest.mark.parametrize("client_certificate", ["optional", "none"])
def test_session_without_a_clients_certificate_is_never_kept(client_certificate: str) -> None:
    with pytest.raises(ValueError, match="client's certificate"):
        pki().context(client_certificate, resumable_s=60)


def test_context_is_as_strict_as_the_issue_asks() -> None:
    context = pki().context(resumable_s=MAX_RESUMABLE_S)
    assert context.get_timeout() == 3600
    assert context.get_session_cache_mode() == SSL.SESS_CACHE_SERVER
    assert context.set_options(0) & SSL.OP_NO_TICKET
    other = build_context(
        chains=pki().chains(),
        client_anchors=[pki().device_ca.certificate],
        client_certificate="required",
    )
    assert other.get_session_cache_mode() == SSL.SESS_CACHE_OFF
