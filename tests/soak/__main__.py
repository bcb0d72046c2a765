"""An emulated RP2040's network, brought up again and again: ``make soak``, outside CI.

Two kinds of restart, each followed by a round trip over TCP to this host: the program hangs up and
dials anew, and a soft reset comes while the link is up. One that fails is one that is lost.

usage: python -m tests.soak [--count N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from handfast.boards.rp2040 import HOST_FROM_BOARD, EmulatedRp2040
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem

STEP_S = 120.0
UP_MS = 60_000
_ECHO = """
import socket, uplink
uplink.up({up_ms})
s = socket.socket()
s.settimeout(30)
s.connect(({host!r}, {port}))
s.send({token!r})
print(s.recv(64).decode())
s.close()
"""
_REDIAL = "import uplink\nuplink.stop()\nassert not uplink.ready()\nuplink.start()"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one kind of restart went; ``slowest_s`` is of those that were not lost."""

    kind: str
    done: int
    lost: int
    slowest_s: float
    reasons: list[str]


@contextmanager
def echo_server() -> Iterator[int]:
    """Send back what comes, on a port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(STEP_S)
                    connection.sendall(connection.recv(64))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(STEP_S)


def round_trip(link: SerialLink, port: int) -> None:
    """Have the board bring its network up and hear its own words; raises BoardProblem if not."""
    token = secrets.token_hex(8).encode()
    code = _ECHO.format(up_ms=UP_MS, host=HOST_FROM_BOARD, port=port, token=token)
    heard = link.exec(code, STEP_S).strip()
    if heard != token.decode():
        raise BoardProblem(f"sent {token!r}, heard {heard!r}")


def repeat(kind: str, count: int, step: Callable[[], None]) -> Outcome:
    reasons: list[str] = []
    slowest = 0.0
    for number in range(1, count + 1):
        began = time.monotonic()
        try:
            step()
            slowest = max(slowest, time.monotonic() - began)
        except BoardProblem as problem:
            reasons.append(f"{number}: {problem}")
        print(f"\r{kind}: {number} of {count}, {len(reasons)} lost", end="", file=sys.stderr)
    print(file=sys.stderr)
    return Outcome(kind, count, len(reasons), round(slowest, 1), reasons)


def soak(board: EmulatedRp2040, count: int) -> list[Outcome]:
    board.install_firmware()
    board.power_on()
    with echo_server() as port, SerialLink.open(board.serial_url) as link:
        link.interrupt(timeout_s=STEP_S)

        def redial() -> None:
            link.exec(_REDIAL, STEP_S)
            round_trip(link, port)

        def soft_reset() -> None:
            link.soft_reset(timeout_s=STEP_S)
            round_trip(link, port)

        round_trip(link, port)
        return [
            repeat("bring-ups", count, redial),
            repeat("soft resets with the link up", count, soft_reset),
        ]


def main(given: Sequence[str] | None = None) -> int:
    """Restart it as often as was asked for; 1 if it did not come up once."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="handfast-soak-") as folder:
        say = lambda text: print(text, file=sys.stderr)  # noqa: E731
        with EmulatedRp2040(directory=Path(folder) / "board", progress=say) as board:
            outcomes = soak(board, options.count)
            damaged = board.network.damaged if board.network else 0
    for outcome in outcomes:
        print(f"{outcome.kind}: {outcome.done}, {outcome.lost} lost, slowest {outcome.slowest_s} s")
        for reason in outcome.reasons:
            print(f"  {reason}")
    print(f"damaged frames: {damaged}")
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return 1 if any(outcome.lost for outcome in outcomes) or damaged else 0


if __name__ == "__main__":
    sys.exit(main())
