"""mbedTLS on a simulated board: what it takes, where its memory is, whose clock it asks."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulator_support import Repl
from tls_support import SERVER_NAME, WITHIN_LIFE, Credential, self_signed

from handfast.boards.simulator import SimulatedBoard

PROFILES = ("sim-pico-w", "sim-esp32")


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    credential: Credential


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    credential = self_signed()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credential.write(tmp_path_factory.mktemp("server")))
    with socket.create_server(("127.0.0.1", 0)) as listener, _answering(listener, context):
        yield Server(port=listener.getsockname()[1], credential=credential)


@contextmanager
def _answering(listener: socket.socket, context: ssl.SSLContext) -> Iterator[None]:
    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(b"hello " + tls.recv(100))
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def talk(server: Server, anchor: bytes, name: str = SERVER_NAME) -> str:
    """Code that says who it is over TLS and prints the answer, or the error."""
    return f"""
import gc, socket, tls
def talk():
    c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations({anchor!r})
    s = socket.socket()
    s.connect(socket.getaddrinfo('127.0.0.1', {server.port})[0][-1])
    t = c.wrap_socket(s, server_hostname={name!r})
    gc.collect()
    global used
    used = gc.mem_alloc()
    t.write(b'board')
    answer = t.read(11)
    t.close()
    return answer
try:
    print(talk())
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(params=PROFILES)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(request.param, directory=tmp_path) as board:
        board.power_on(rtc=WITHIN_LIFE)
        yield board


def test_a_handshake_with_a_trusted_server_works(board: SimulatedBoard, server: Server) -> None:
    with Repl(board.serial_url) as repl:
        assert repl.exec(talk(server, server.credential.der())) == "b'hello board'"


def test_another_host_name_is_refused(board: SimulatedBoard, server: Server) -> None:
    with Repl(board.serial_url) as repl:
        assert "does not match" in repl.exec(talk(server, server.credential.der(), "other.test"))


def test_another_anchor_is_refused(board: SimulatedBoard, server: Server) -> None:
    with Repl(board.serial_url) as repl:
        answer = repl.exec(talk(server, self_signed().der()))
    assert "not correctly signed" in answer


def test_mbedtls_asks_the_boards_clock(board: SimulatedBoard, server: Server) -> None:
    with Repl(board.serial_url) as repl:
        for year, expected in ((2025, "starts in the future"), (2028, "expired"), (2026, "hello")):
            repl.exec(f"import machine; machine.RTC().datetime(({year}, 6, 1, 0, 0, 0, 0, 0))")
            assert expected in repl.exec(talk(server, server.credential.der()))


def test_pem_is_taken_where_the_board_takes_it(board: SimulatedBoard, server: Server) -> None:
    tls = board.definition.tls
    assert tls is not None
    with Repl(board.serial_url) as repl:
        answer = repl.exec(talk(server, server.credential.pem()))
    assert ("hello" in answer) == ("pem" in tls.certificate_formats), answer


def test_tls_memory_is_where_the_board_has_it(board: SimulatedBoard, server: Server) -> None:
    tls = board.definition.tls
    assert tls is not None
    with Repl(board.serial_url) as repl:
        repl.exec(talk(server, server.credential.der()))
        used = int(repl.exec("gc.collect(); print(used - gc.mem_alloc())"))
    assert (used > 15_000) == (tls.heap == "gc"), used


def test_the_heap_is_the_boards(board: SimulatedBoard) -> None:
    memory = board.definition.memory
    assert memory is not None
    with Repl(board.serial_url) as repl:
        total = int(repl.exec("import gc; print(gc.mem_free() + gc.mem_alloc())"))
    assert 0.9 * memory.heap_kb * 1024 < total <= memory.heap_kb * 1024
