"""A simulated board's bench over TCP: its serial line, its power switch and its reset button.

One JSON object a line, ``{"do": "power_cycle", "rtc": 0}``, answered by ``{"value": ...}`` or
``{"problem": "..."}``. As open as a serial server: for loopback, a VPN or an SSH tunnel's end.
"""

from __future__ import annotations

import json
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from handfast.errors import BoardProblem, HandfastError
from handfast.lab.labgrid.serial_server import SerialServer
from handfast.lab.pytest_plugin.power import VirtualBench

_LONGEST_LINE = 4096
_TIMEOUT_S = 30.0  # for one thing to be done: a board starts within 20 s, or never


class LocalBench(VirtualBench):
    """The plugin's bench, with a switch that may be off."""

    def power_on(self, rtc: int | None = None) -> None:
        """Switch the power on, if it is off; ``rtc``: what the clock then shows (unix seconds)."""
        if not self.is_on():
            self._board.power_on(rtc=rtc)

    def is_on(self) -> bool:
        """Say whether it has power."""
        return self.pid is not None


_COMMANDS = frozenset(
    {"power_on", "power_off", "power_cycle", "reset", "renew", "is_on", "power_was_cut"}
)


class SimBenchServer:
    """Serves a bench to one other machine: ``port`` is the board's line, ``control_port`` the rest.

    Args:
        profile: the board's definition.
        name: what its hardware id comes from.
        host: the address to listen at.
    """

    def __init__(self, profile: str, name: str, host: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="handfast-sim-")
        self._bench = LocalBench(profile, Path(self._folder.name), name)
        self._line = SerialServer(self._bench.serial_url, host)
        self._lock = threading.Lock()
        self._control = _Control((host, 0), self._answer)
        self.port = self._line.port
        self.control_port: int = self._control.server_address[1]
        threading.Thread(target=self._control.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """End the board; who is connected is hung up on."""
        self._control.shutdown()
        self._control.server_close()
        self._line.close()
        self._bench.close()
        self._folder.cleanup()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            wanted = request.pop("do")
            if wanted not in _COMMANDS:
                raise ValueError(wanted)
            with self._lock:
                done = getattr(self._bench, wanted)
                return {"value": done(**request) if callable(done) else done}
        except HandfastError as error:
            return {"problem": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"problem": f"not a request to a bench: {error}"}


class _Control(socketserver.ThreadingTCPServer):
    """Answers lines, each client in a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Callable[[bytes], dict[str, Any]]) -> None:
        self.answer = answer
        self._clients: set[socket.socket] = set()
        super().__init__(address, _Conversation)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Talk to a client in a thread of its own."""
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A conversation is over."""
        self._clients.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Hang up on everybody: who held the board before must not reach the next one."""
        super().server_close()
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class _Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer line by line until the client goes."""
        server: Any = self.server
        while (line := self.rfile.readline(_LONGEST_LINE)).endswith(b"\n"):
            self.wfile.write(json.dumps(server.answer(line)).encode() + b"\n")


class RemoteBench:
    """The other end of :class:`SimBenchServer`: what :class:`LocalBench` does, and raises.

    Args:
        serial_url: the board's line.
        host: where the server is.
        port: its control port.
    """

    def __init__(self, serial_url: str, host: str, port: int) -> None:
        self.serial_url = serial_url
        self._address = (host, port)
        self._lock = threading.Lock()
        self._socket: Any = None
        self._replies: Any = None

    def power_on(self, rtc: int | None = None) -> None:
        """Switch the power on, if it is off; ``rtc``: what the clock then shows (unix seconds)."""
        self._do("power_on", rtc=rtc)

    def power_off(self) -> None:
        """Take the power away."""
        self._do("power_off")

    def power_cycle(self, *, rtc: int | None = None) -> None:
        """Take the power away and give it back."""
        self._do("power_cycle", rtc=rtc)

    def reset(self) -> None:
        """Press the reset button."""
        self._do("reset")

    def renew(self) -> None:
        """Put in a blank flash chip."""
        self._do("renew")

    def is_on(self) -> bool:
        """Say whether it has power."""
        return bool(self._do("is_on"))

    @property
    def power_was_cut(self) -> bool:
        """Whether the power failed in the middle of a flash operation."""
        return bool(self._do("power_was_cut"))

    def close(self) -> None:
        """Hang up; the board is its exporter's."""
        with self._lock:
            self._hang_up()

    def _do(self, command: str, **arguments: object) -> Any:
        request = json.dumps({"do": command, **arguments}).encode() + b"\n"
        with self._lock:
            try:
                if self._socket is None:
                    self._connect()
                reply = self._exchange(request)
            except (OSError, ValueError) as error:
                self._hang_up()
                host, port = self._address
                raise BoardProblem(
                    f"the bench at {host}:{port} is gone ({error or 'it hung up'}): "
                    "see whether its exporter runs"
                ) from error
        if "problem" in reply:
            raise BoardProblem(str(reply["problem"]))
        return reply.get("value")

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")

    def _exchange(self, request: bytes) -> dict[str, Any]:
        self._socket.sendall(request)
        line: bytes = self._replies.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("it hung up")
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError(f"{reply!r} is no answer")
        return reply

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._replies.close()
            self._socket.close()
            self._socket = self._replies = None
