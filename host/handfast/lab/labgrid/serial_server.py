"""A serial line carried over TCP as bytes and nothing else: what pyserial opens as ``socket://``."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from contextlib import suppress
from typing import Any

_PIECE_BYTES = 65536
_MOST_BYTES = 262_144  # waiting for either end; the other is not read meanwhile


class SerialServer:
    """Carries one serial line, to one client at a time: a new one takes the place of the last.

    A client that went without a word (a machine that lost its power) so keeps nobody out. What the
    board prints while there is none is lost, as on a cable without a listener.

    Args:
        path: the serial line, such as ``/dev/pts/3``.
        host: the address to listen at.
    """

    def __init__(self, path: str, host: str) -> None:
        self._line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._to_board, self._to_client = bytearray(), bytearray()
        self._over, self._end = os.pipe()
        self._thread = threading.Thread(target=self._serve, name=f"serial {path}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up; the line itself stays."""
        os.write(self._end, b"x")
        self._thread.join()
        for handle in (self._line, self._over, self._end):
            os.close(handle)
        self._listener.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._over, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._line, selectors.EVENT_READ)
            while True:
                self._watch(selector)
                ready = {key.fileobj: events for key, events in selector.select()}
                if self._over in ready:
                    break
                if self._client in ready:
                    self._carry_client(selector, ready[self._client])
                if self._line in ready:
                    self._carry_line(ready[self._line])
                if self._listener in ready:
                    self._welcome(selector)
        self._drop_client()

    def _watch(self, selector: selectors.BaseSelector) -> None:
        """Watch each end for what there is to do; one with nothing to do is not watched."""
        ends: list[tuple[Any, bytearray, bytearray]] = [
            (self._line, self._to_board, self._to_client)
        ]
        if self._client is not None:
            ends.append((self._client, self._to_client, self._to_board))
        for end, to_it, from_it in ends:
            wanted = selectors.EVENT_WRITE if to_it else 0
            wanted |= selectors.EVENT_READ if len(from_it) < _MOST_BYTES else 0
            if end not in selector.get_map():
                if wanted:
                    selector.register(end, wanted)
            elif wanted:
                selector.modify(end, wanted)
            else:
                selector.unregister(end)

    def _carry_line(self, events: int) -> None:
        # The PTY's other end is held by whoever runs the board: it does not hang up before us.
        with suppress(BlockingIOError):
            if events & selectors.EVENT_READ:
                printed = os.read(self._line, _PIECE_BYTES)
                if self._client is not None:
                    self._to_client += printed
        with suppress(BlockingIOError):
            if events & selectors.EVENT_WRITE and self._to_board:
                del self._to_board[: os.write(self._line, self._to_board)]

    def _carry_client(self, selector: selectors.BaseSelector, events: int) -> None:
        client = self._client
        if client is None:
            return
        try:
            if events & selectors.EVENT_READ:
                received = client.recv(_PIECE_BYTES)
                if not received:
                    raise ConnectionResetError
                self._to_board += received
            if events & selectors.EVENT_WRITE and self._to_client:
                del self._to_client[: client.send(self._to_client)]
        except BlockingIOError:
            return
        except OSError:
            selector.unregister(client)
            self._drop_client()

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._client is not None and self._client in selector.get_map():
                selector.unregister(self._client)
            self._drop_client()
            self._client = client

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._to_client.clear()
