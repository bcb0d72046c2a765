"""What runs on emulated boards: slow, so apart from `make test` (see `make test-emulated`)."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from handfast.lab.gateway_process import GatewayProcess
from handfast.state import StateDir

# A gateway, certificates and servers are made as for simulated boards; so is a model of QEMU.
TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "end_to_end"), str(TESTS / "host" / "esp32_qemu")]

_CONTENT = random.Random(1).randbytes(20_000)  # noqa: S311 - some packets of what is no pattern


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(_CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[int, bytes]]:
    """An HTTP server on this machine's loopback: its port, and what it serves."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, _CONTENT
        server.shutdown()


@pytest.fixture(scope="module")
def gateway(lab: tuple[StateDir, GatewayProcess]) -> GatewayProcess:
    """That of the module's fixture ``lab``."""
    return lab[1]


@pytest.fixture(scope="module")
def log(lab: tuple[StateDir, GatewayProcess]) -> Path:
    """What that gateway logs: one JSON document a line."""
    return lab[0].gateway_log
