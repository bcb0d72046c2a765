"""TLS servers that behave well or badly, for the device's client to meet. One script a server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Peer = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def read_request(connection: socket.socket) -> bytes:
    """Return one request, or b"" when the client closed."""
    request = b""
    while b"\r\n\r\n" not in request:
        if not (piece := connection.recv(4096)):
            return b""
        request += piece
    return request


def drip(connection: socket.socket, data: bytes, every_s: float = 0.05) -> None:
    """Send a byte at a time, for as long as the other side listens."""
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(every_s)


def flood(connection: socket.socket, data: bytes) -> None:
    """Send it again and again, so that the other side never waits for any."""
    while True:
        connection.sendall(data)


def answer(*pieces: bytes, close: bool = False) -> Peer:
    """Answer each request with these bytes."""

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            for piece in pieces:
                connection.sendall(piece)
            if close:
                return

    return serve


def hold_port() -> socket.socket:
    """Bind a port for a server that takes no listener of ours: nobody else is given it then.

    Linux lets the server bind it too, since both say SO_REUSEADDR and this one never listens.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server that was given that port listens there."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"{process.args} does not listen")


@contextmanager
def serving(
    *scripts: Peer, context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[int]]]:
    """Yield the port, and a list that grows with each connection. The n-th connection meets the
    n-th script, later ones the last."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[int] = []

    def one(connection: socket.socket, script: Peer) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), connection:
            if context is None:
                script(connection)
            else:
                with context.wrap_socket(connection, server_side=True) as secured:
                    script(secured)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            script = scripts[min(len(seen), len(scripts) - 1)]
            seen.append(len(seen))
            threading.Thread(target=one, args=(connection, script), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
