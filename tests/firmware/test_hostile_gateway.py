"""A gateway that lies in its answers to an agent: a clear error each, and a board that recovers."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from device_interpreter import BOARDS, DEVICE_SCRIPTS, micropython_environment, program
from device_pki import encoded
from est_peer import (
    EstPeer,
    certs_only,
    enrol_with,
    issue,
    response,
    root_ca,
    server_ca,
    tls_context,
)
from hostile_peer import OK, drip, serving

from handfast.boards.definition import load_board

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
TIMEOUT_MS = 1500
LEAST_MS = 3000  # between two leaves, whatever becomes of them
Lie = Callable[[socket.socket, bytes], None]


class Gateway(EstPeer):
    """Lies to the first CSRs for an enrolment and for a renewal; then it is honest."""

    def __init__(self, lie: Lie, lies: int) -> None:
        super().__init__()
        self.lie = lie
        self.lies = lies
        self.asked: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        while request := self._read(connection):
            head, body = request
            operation = head.split(" ")[1].rpartition("/")[2]
            self.asked.append(operation)
            if operation == "ping":
                connection.sendall(self.ping())
            elif operation == "config":
                connection.sendall(LARGE)
            elif operation == "csrattrs":
                connection.sendall(self.csrattrs)
            elif operation == "cacerts":
                connection.sendall(certs_only([root_ca(), server_ca()]))
            elif self.asked.count(operation) <= self.lies:
                self.lie(connection, body)
                return
            else:
                connection.sendall(certs_only([issue(body)]))

    def ping(self) -> bytes:
        return OK

    def issued(self) -> int:
        return sum("enroll" in operation for operation in self.asked)


class RefusesProof(Gateway):
    """Hangs up, without a word, on the first connection after a first leaf, and after a renewal."""

    def __init__(self) -> None:
        super().__init__(says(b""), 0)
        self.hung_up: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        issued_by = [operation for operation in self.asked if "enroll" in operation]
        if issued_by and issued_by[-1] not in self.hung_up:
            self.hung_up.append(issued_by[-1])
            return
        super().__call__(connection)


class Fickle(Gateway):
    """Issues leaves, and takes each for as many requests as ``good`` says, others for none."""

    def __init__(self, good: dict[int, int], *, lie: Lie | None = None) -> None:
        super().__init__(lie or says(b""), 10**6 if lie else 0)
        self.good = good

    def ping(self) -> bytes:
        left = self.good.get(self.issued(), 0)
        self.good[self.issued()] = left - 1
        return OK if left > 0 else SUPERSEDED


class Turned(Fickle):
    """Refuses each leaf but the first at its first use, and goes on taking the one before."""

    def ping(self) -> bytes:
        first_use = self.asked[-2] == "cacerts"
        return SUPERSEDED if first_use else OK


def says(answer: bytes) -> Lie:
    return lambda connection, _: connection.sendall(answer)


def certifies(**changes: object) -> Lie:
    return lambda connection, body: connection.sendall(enrol_with(**changes)(body))


def lasts(begins: timedelta, ends: timedelta) -> Lie:
    def lie(connection: socket.socket, body: bytes) -> None:
        now = datetime.now(UTC)
        connection.sendall(enrol_with(not_before=now + begins, not_after=now + ends)(body))

    return lie


def without_end(head: bytes, piece: bytes) -> Lie:
    def lie(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return lie


def slowly(connection: socket.socket, body: bytes) -> None:
    drip(connection, enrol_with()(body))


def announces(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
SUPERSEDED = response(
    b'{"type": "urn:handfast:error:certificate-superseded"}',
    "application/problem+json",
    "403 Forbidden",
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# Within the limit of a body that is read whole; more than a heap in use has in one piece.
LARGE = response(b'{"pad": "' + 15_900 * b"x" + b'"}', "application/json")
ELSEWHERE = "Location: https://127.0.0.2:1/\r\n"
LIES: dict[str, tuple[Lie, list[object]]] = {
    "slow": (slowly, ["error", "Unreachable"]),
    "breaks-off": (says(announces(500) + b"MII"), ["error", "ProtocolError"]),
    "longer-than-allowed": (says(announces(10**9)), ["error", "ProtocolError"]),
    "length-of-no-number": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        ["error", "ProtocolError"],
    ),
    "headers-without-end": (
        without_end(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 50),
        ["error", "ProtocolError"],
    ),
    "a-line-without-end": (
        without_end(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 500),
        ["error", "ProtocolError"],
    ),
    "chunks-without-end": (
        without_end(CHUNKED, b"5\r\naaaaa\r\n" * 50),
        ["error", "ProtocolError"],
    ),
    "html": (says(response(b"<html>", "text/html")), ["error", "ProtocolError"]),
    "no-base64": (says(response(b"\xff" * 40)), ["error", "DecodeError"]),
    "no-pkcs7": (says(response(base64.b64encode(b"0" * 40))), ["error", "DecodeError"]),
    "sent-elsewhere": (
        says(response(status="307 X", headers=ELSEWHERE)),
        ["error", "ProtocolError"],
    ),
    "server-error": (says(response(status="500 X")), ["refused", 500]),
    "another-key": (certifies(key=OTHER_KEY), ["error", "Untrusted"]),
    "a-ca": (certifies(ca=True), ["error", "Untrusted"]),
    "no-life": (lasts(-HOUR, timedelta(seconds=-1)), ["error", "Untrusted"]),
    "lives-six-years": (lasts(-HOUR, 6 * 365 * DAY), ["error", "Untrusted"]),
    "begins-in-2099": (lasts(73 * 365 * DAY, 74 * 365 * DAY), ["error", "Untrusted"]),
}


def live(
    board: str,
    folder: Path,
    lie: Lie | Gateway,
    *,
    lies: int = 1,
    script: str = "agent_under_fire.py",
    way: Sequence[str] = (),
) -> tuple[list[object], Gateway]:
    """Let a board with that profile's heap enrol and renew; returns what it printed."""
    root = folder / "store"
    (root / "anchor").mkdir(parents=True)
    (root / "anchor/tls-0.der").write_bytes(encoded(server_ca()))
    (root / "anchor/root-0.der").write_bytes(encoded(root_ca()))
    (root / "secret.json").write_text(json.dumps({"token": "t0ken"}))
    gateway = lie if isinstance(lie, Gateway) else Gateway(lie, lies)
    memory = load_board(BOARDS[board][0]).memory
    assert memory is not None
    with serving(gateway, context=tls_context(folder)) as (port, _):
        url = f"https://127.0.0.1:{port}"
        config = {"schema": 1, "device_id": "d", "trust_domain": "t"}
        config |= {"api_url": url, "enrol_url": url}
        (root / "config.json").write_text(json.dumps(config))
        heap = ["-X", f"heapsize={memory.heap_kb}k"]
        done = subprocess.run(
            [
                *[program(board), *heap, DEVICE_SCRIPTS / script],
                *[root, str(TIMEOUT_MS), *way],
            ],
            env={**os.environ, **micropython_environment()},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), gateway


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_one_clear_error_and_the_next_attempt_succeeds(
    tmp_path: Path, board: str, lie: str
) -> None:
    tell, error = LIES[lie]
    (events, kept), gateway = live(board, tmp_path, tell)
    assert [event[0] for event in events] == [error[0], "enrolled", error[0], "renewed"], events
    assert events[0] in (error, *also(lie))
    assert events[2] in (error, *also(lie))
    assert kept, "the leaf stays in use while its renewal fails"
    asked = [name for name in gateway.asked if "enroll" in name]
    assert asked == ["simpleenroll"] * 2 + ["simplereenroll"] * 2


def also(lie: str) -> list[list[object]]:
    """A body that grows up to its limit may meet the heap's first: bounded all the same."""
    return [["error", "OutOfMemory"]] if lie == "chunks-without-end" else []


@pytest.mark.parametrize("board", BOARDS)
def test_a_leaf_that_the_gateway_hangs_up_on_never_takes_the_place_of_one_that_works(
    tmp_path: Path, board: str
) -> None:
    """The first leaf, beside which there is none, is tried again; a renewal's key is replaced."""
    (events, kept), gateway = live(board, tmp_path, RefusesProof())
    assert events == [["refused", 0], ["recovered", None], ["refused", 0], ["renewed", None]]
    assert kept
    assert gateway.hung_up == ["simpleenroll", "simplereenroll"]
    assert [gateway.asked.count(name) for name in gateway.hung_up] == [1, 2]


@pytest.mark.parametrize("board", BOARDS)
def test_a_connection_that_ends_without_a_word_is_made_anew_once(
    tmp_path: Path, board: str
) -> None:
    (events, kept), _ = live(board, tmp_path, says(b""))
    # The enrolment's had been open for csrattrs, and may have ended meanwhile: that is no failure.
    assert events == [["enrolled", None], ["error", "Unreachable"], ["renewed", None]]
    assert kept


@pytest.mark.parametrize("board", BOARDS)
def test_lives_of_two_seconds_end_in_a_clear_error_and_not_in_a_race(
    tmp_path: Path, board: str
) -> None:
    lie = lasts(-HOUR, timedelta(seconds=2))
    (events, took_ms), gateway = live(
        board, tmp_path, lie, lies=3, script="agent_of_short_lives.py"
    )
    assert ["error", "NotEnrolled"] in events
    assert [event for event in events if event[0] == "enrolled"] == [["enrolled", None]] * 4
    assert took_ms >= 3 * 3000
    assert gateway.asked.count("simpleenroll") == 4


@pytest.mark.parametrize(
    ("board", "way"),
    # The library's source has no room on a Pico W beside asyncio: its bytecode has.
    [*((board, "step") for board in BOARDS), ("esp32", "run"), ("esp32-1.25.0", "run")],
)
def test_a_configuration_too_large_for_the_heap_ends_no_agent(
    tmp_path: Path, board: str, way: str
) -> None:
    honest = says(b"")
    (told, went_on), gateway = live(
        board, tmp_path, honest, lies=0, script="agent_asks.py", way=[way]
    )
    assert told == [["enrolled", None], ["error", "OutOfMemory"]]
    assert went_on
    assert gateway.asked.count("config") == 1


@pytest.mark.parametrize("board", BOARDS)
def test_leaves_that_never_work_are_asked_for_ever_more_slowly(tmp_path: Path, board: str) -> None:
    # The eighth works once, and is refused when it is used again.
    waits, _ = live(
        board,
        tmp_path,
        Fickle({8: 1}),
        script="agent_of_refused_leaves.py",
        way=["10", "enrolled"],
    )
    assert max(waits[:3]) <= LEAST_MS
    assert waits[3] < waits[4] < 2 * waits[7]
    assert 15_000 < waits[7] <= 60_000
    # With a leaf that worked it begins anew. Four refusals lie behind this wait: of the eighth, of
    # the ninth, and of the one before after each of them.
    assert waits[9] <= 4000


@pytest.mark.parametrize("board", BOARDS)
def test_renewals_that_never_work_are_tried_ever_more_slowly_though_the_old_leaf_does(
    tmp_path: Path, board: str
) -> None:
    due_at_once = lasts(-3 * HOUR, HOUR)
    waits, _ = live(
        board,
        tmp_path,
        Turned({}, lie=due_at_once),
        script="agent_of_refused_leaves.py",
        way=["8", "renewed"],
    )
    eighth_ms = 1000 * HOUR.total_seconds() / 8
    assert waits[1] < waits[3] < waits[5] < waits[7] <= eighth_ms
    assert waits[7] > eighth_ms / 3


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_that_is_refused_for_good_and_has_no_way_in_tries_ever_more_slowly(
    tmp_path: Path, board: str
) -> None:
    never = Fickle({1: 1})
    waits, _ = live(board, tmp_path, never, script="agent_of_refused_leaves.py", way=["9", "error"])
    assert waits[3] < waits[5] < waits[7]
    assert 15_000 < waits[8] <= 60_000
    # It tries its leaf each time, since the gateway may think otherwise.
    assert never.asked.count("ping") == 2 + 8
