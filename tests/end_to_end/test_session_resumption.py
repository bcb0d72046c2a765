"""`tls` of a build with session resumption: what a client may resume, and what not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from simulator_support import Repl
from tls_support import SERVER_NAME, WITHIN_LIFE, Credential, self_signed

from handfast.boards.simulator import SimulatedBoard

OPTIONS = ("session-resumption",)
TIMEOUT_S = 10


@dataclass(slots=True)
class Server:
    """Answers each connection with whether its session was resumed."""

    port: int
    credential: Credential
    client_hellos: list[bytes] = field(default_factory=list)


def server_context(credential: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET  # what is left is the cache, by session id
    # MicroPython closes without close_notify, and OpenSSL drops a session that ended by an error;
    # not every build of Python sets this by itself.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(credential)
    return context


@contextmanager
def serving(folder: Path, *, keeps_sessions: bool = True) -> Iterator[Server]:
    credential = self_signed()
    file = credential.write(folder)
    context = server_context(file)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener.getsockname()[1], credential)

        def serve() -> None:
            used = context
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(TIMEOUT_S)
                if not keeps_sessions:
                    used = server_context(file)
                try:
                    server.client_hellos.append(connection.recv(4096, socket.MSG_PEEK))
                    with used.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(100)
                        tls.sendall(b"resumed" if tls.session_reused else b"in full")
                        tls.recv(1)  # the board closes first
                        tls.unwrap()
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module", params=["sim-pico-w", "sim-esp32"])
def repl(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Repl]:
    folder = tmp_path_factory.mktemp("board")
    with SimulatedBoard(request.param, directory=folder, options=OPTIONS) as board:
        board.power_on(rtc=WITHIN_LIFE)
        with Repl(board.serial_url) as repl:
            yield repl


def talk(server: Server, do: str) -> str:
    """Code with `context()` and `talk(context, session) -> (answer, socket's session, reused)`."""
    return f"""
import gc, socket, tls
def context(mode=tls.CERT_REQUIRED):
    c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    c.verify_mode = mode
    if mode != tls.CERT_NONE:
        c.load_verify_locations({server.credential.der()!r})
    return c
def talk(c, session=None, name={SERVER_NAME!r}, port={server.port}):
    s = socket.socket()
    s.connect(socket.getaddrinfo('127.0.0.1', port)[0][-1])
    try:
        t = c.wrap_socket(s, server_hostname=name, session=session)
    except Exception:
        s.close()
        raise
    t.write(b'board')
    answer = t.read(7).decode()
    found = answer, t.session, t.session_reused
    assert t.session is found[1]
    t.close()
    gc.collect()
    return found
try:
{"".join(f"    {line}{chr(10)}" for line in do.strip().splitlines())}
except (AttributeError, OSError, TypeError, ValueError) as error:
    print(type(error).__name__, error)
"""


def test_session_is_resumed_again_and_again_also_by_another_context(
    repl: Repl, server: Server
) -> None:
    said = repl.exec(
        talk(
            server,
            "answer, first, reused = talk(context())\n"
            "print(answer, type(first).__name__, len(first.id), reused)\n"
            "for _ in range(3):\n"
            "    answer, session, reused = talk(context(), first)\n"
            "    print(answer, session is first, reused)",
        )
    )
    assert said.splitlines() == ["in full SSLSession 32 False", *["resumed True True"] * 3]


def test_session_that_the_server_does_not_know_becomes_a_full_handshake_with_a_new_one(
    repl: Repl, server: Server, tmp_path: Path
) -> None:
    with serving(tmp_path) as other:
        said = repl.exec(
            talk(
                server,
                "_, first, _ = talk(context())\n"
                "c = context()\n"
                f"c.load_verify_locations({other.credential.der()!r})\n"
                f"answer, session, reused = talk(c, first, port={other.port})\n"
                "print(answer, session is not None and session.id != first.id, reused)",
            )
        )
    assert said == "in full True False"


def test_server_that_keeps_no_sessions_is_served_in_full(repl: Repl, tmp_path: Path) -> None:
    with serving(tmp_path, keeps_sessions=False) as forgetful:
        said = repl.exec(
            talk(
                forgetful,
                "_, first, _ = talk(context())\n"
                "answer, _, reused = talk(context(), first)\n"
                "print(answer, reused)",
            )
        )
    assert said == "in full False"


def test_session_of_one_name_is_not_resumed_for_another(repl: Repl, server: Server) -> None:
    said = repl.exec(
        talk(
            server,
            "_, first, _ = talk(context())\nprint(talk(context(), first, name='other.test'))",
        )
    )
    assert said == "ValueError session has other server_hostname"


def test_session_without_a_verified_peer_is_not_resumed_where_one_is_required(
    repl: Repl, server: Server
) -> None:
    said = repl.exec(
        talk(
            server,
            "_, first, _ = talk(context(tls.CERT_NONE))\n"
            "print(talk(context(tls.CERT_NONE), first)[0])\n"
            "print(talk(context(), first))",
        )
    )
    assert said.splitlines() == ["resumed", "ValueError session is not verified"]


def test_what_is_no_session_is_refused(repl: Repl, server: Server) -> None:
    said = repl.exec(
        talk(
            server,
            "for what in (b'', 1, context()):\n"
            "    try:\n        talk(context(), what)\n"
            "    except TypeError as error:\n        print(error)\n"
            "_, first, _ = talk(context())\n"
            "s = socket.socket()\n"
            "server = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)\n"
            f"server.wrap_socket(s, server_side=True, server_hostname={SERVER_NAME!r}, "
            "session=first)",
        )
    )
    assert said.splitlines() == [
        *["session must be an SSLSession"] * 3,
        "ValueError session is for a client",
    ]


def test_there_is_no_session_before_the_handshake_nor_after_the_end(
    repl: Repl, server: Server
) -> None:
    said = repl.exec(
        talk(
            server,
            "s = socket.socket()\n"
            f"s.connect(socket.getaddrinfo('127.0.0.1', {server.port})[0][-1])\n"
            f"t = context().wrap_socket(s, server_hostname={SERVER_NAME!r}, "
            "do_handshake_on_connect=False)\n"
            "print(t.session, t.session_reused)\n"
            "t.write(b'board')\nt.read(7)\nt.close()\n"
            "print(t.session, t.session_reused)",
        )
    )
    assert said.splitlines() == ["None False"] * 2


def test_sessions_that_are_dropped_give_their_memory_back(repl: Repl, server: Server) -> None:
    said = repl.exec(
        talk(
            server,
            "_, first, _ = talk(context())\n"
            "used = []\n"
            "for _ in range(12):\n"
            "    talk(context())\n    talk(context(), first)\n    gc.collect()\n"
            "    used.append(gc.mem_alloc())\n"
            "print(max(used[2:]) - min(used[2:]) < 200 or used)",
        )
    )
    assert said == "True"


def extensions(client_hello: bytes) -> set[int]:
    """Return the types of a ClientHello's extensions (RFC 5246 section 7.4.1.2)."""
    body = client_hello[5 + 4 + 2 + 32 :]  # record, handshake, version, random
    body = body[1 + body[0] :]  # session id
    body = body[2 + int.from_bytes(body[:2], "big") :]  # suites
    body = body[1 + body[0] :]  # compression methods
    body, found = body[2:], set()
    while body:
        found.add(int.from_bytes(body[:2], "big"))
        body = body[4 + int.from_bytes(body[2:4], "big") :]
    return found


def test_extended_master_secret_is_offered(repl: Repl, server: Server) -> None:
    repl.exec(talk(server, "talk(context(), talk(context())[1])"))
    for hello in server.client_hellos[-2:]:
        assert 23 in extensions(hello)


def test_stock_build_has_none_of_it(server: Server, tmp_path: Path) -> None:
    with SimulatedBoard("sim-pico-w", directory=tmp_path) as board:
        board.power_on(rtc=WITHIN_LIFE)
        with Repl(board.serial_url) as repl:
            said = repl.exec(
                talk(server, "print(hasattr(tls, 'SSLSession'))\ntalk(context(), None)")
            )
    assert said.splitlines()[0] == "False"
    assert "TypeError" in said
