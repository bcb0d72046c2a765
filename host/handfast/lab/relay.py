"""A TCP relay that counts: stands before a listener to see who connects at all."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_CONNECT_S = 5.0
_LOOK_UP_S = 0.1  # how long a connection may outlive close()
_READ_BYTES = 65536


class CountingRelay:
    """Passes each connection on to a server, byte for byte, and counts it; a context manager.

    What goes through is not looked at: TLS stays between the client and the server behind.

    Args:
        url: of the server behind, ``scheme://address:port``.
    """

    def __init__(self, url: str) -> None:
        behind = urlsplit(url)
        if behind.hostname is None or behind.port is None:
            raise ValueError(f"{url} names no host or no port")
        self._behind = (behind.hostname, behind.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{behind.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._accept, name=f"relay {url}", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with (
            near,
            suppress(OSError),  # one of the two has gone: so does the other
            socket.create_connection(self._behind, timeout=_CONNECT_S) as far,
        ):
            self._pass_on({near: far, far: near})

    def _pass_on(self, opposite: dict[socket.socket, socket.socket]) -> None:
        while not self._closed.is_set():
            for end in select.select(list(opposite), [], [], _LOOK_UP_S)[0]:
                if not (received := end.recv(_READ_BYTES)):
                    return
                opposite[end].sendall(received)

    def close(self) -> None:
        """Take no more connections and end those that are open."""
        self._closed.set()
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
