"""The relay that the demo counts connections with must itself be able to count."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from handfast.lab.relay import CountingRelay

TIMEOUT_S = 10


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a server that sends back what it gets, and closes when its client is done."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while received := connection.recv(65536):
                        connection.sendall(received)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(TIMEOUT_S)


def connect(relay: CountingRelay) -> socket.socket:
    port = int(relay.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)


def test_every_connection_is_counted_and_passed_on(echo: str) -> None:
    with CountingRelay(echo) as relay:
        assert relay.url.startswith("https://127.0.0.1:")
        assert relay.connections == 0
        for number in (1, 2, 3):
            with connect(relay) as client:
                client.sendall(b"over")
                assert client.recv(100) == b"over"
            assert relay.connections == number


def test_a_connection_counts_though_nobody_is_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"https://127.0.0.1:{listener.getsockname()[1]}"
    with CountingRelay(nobody) as relay, connect(relay) as client:
        assert client.recv(1) == b""
        assert relay.connections == 1


def test_closing_ends_what_is_open_and_takes_no_more(echo: str) -> None:
    with CountingRelay(echo) as relay:
        client = connect(relay)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    with client:
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(relay)


def test_a_url_without_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="names no host or no port"):
        CountingRelay("https://gateway")
