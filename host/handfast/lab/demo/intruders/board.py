"""A simulated board as an attacker: its ``tls`` takes a certificate and a key that do not match."""

from __future__ import annotations

import ast
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from handfast.boards.serial_link import SerialLink
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.intruders.attempt import Answer, Attempt
from handfast.lab.demo.intruders.client import Met, answer_to, request_bytes

_ATTEMPT_S = 30.0
# The board's own mbedTLS, not the library: that one refuses such a pair itself.
_SCRIPT = """
import gc, socket, tls
def attack(source, target, name, pair, request):
    gc.collect()
    c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    c.verify_mode = tls.CERT_NONE
    c.load_cert_chain(*pair)
    s = socket.socket()
    s.settimeout(10)
    try:
        s.bind(socket.getaddrinfo(*source)[0][-1])
        s.connect(socket.getaddrinfo(*target)[0][-1])
        t = c.wrap_socket(s, server_hostname=name)
        t.write(request)
        return t.read(4096), ''
    except OSError as error:
        return b'', 'OSError %s' % error
    finally:
        s.close()
"""


class BoardAttacker:
    """Makes attempts from a board, over its serial line.

    Args:
        board: switched on.
        urls: of the gateway's listeners, by name.
        source: the loopback address that the board calls from.
    """

    def __init__(self, board: DemoBoard, urls: Mapping[str, str], *, source: str) -> None:
        self._urls = urls
        self._source = source
        self._link = SerialLink.open(board.board.serial_url, capture=board.capture)
        self._ports: set[int] = set()
        self._link.exec(_SCRIPT)

    def make(self, attempt: Attempt) -> Answer:
        """See :class:`handfast.lab.demo.intruders.attackers.Attacker`.

        Raises:
            BoardProblem: the board does not answer.
        """
        if attempt.credential is None:
            raise ValueError("a board attacks with a certificate")
        to = urlsplit(self._urls[attempt.listener])
        port = self._free_port()
        pair = (attempt.credential.certificate, attempt.credential.key)
        # MicroPython cannot ask a socket for its address, so the address is chosen here.
        arguments = ((self._source, port), (to.hostname, to.port), to.hostname, pair)
        listed = ", ".join(repr(argument) for argument in (*arguments, request_bytes(attempt)))
        printed = self._link.exec(f"print(attack({listed}))", timeout_s=_ATTEMPT_S)
        received, error = ast.literal_eval(printed)
        return answer_to(attempt, Met(f"{self._source}:{port}", received, error))

    def _free_port(self) -> int:
        while True:
            with socket.socket() as probe:
                probe.bind((self._source, 0))
                port: int = probe.getsockname()[1]
            if port not in self._ports:
                self._ports.add(port)
                return port

    def close(self) -> None:
        """Give the serial port back."""
        self._link.close()
