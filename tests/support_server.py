"""The mTLS server in a thread of its own, certificates made for it, and raw peers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import uvloop

from handfast.gateway.server import ConnectionInfo, Limits, Listener, Server
from support_server_pki import Identity, pem, pki

T = TypeVar("T")
DEADLINE_S = 15.0


def wait_for(find: Callable[[], T | None]) -> T:
    """Return what ``find`` finds, asked again until the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := find()):
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.005)
    return found


# The application


@dataclass(frozen=True)
class Call:
    scope: Any
    receive: Any
    send: Any


class App:
    """A small ASGI application whose requests a test can hold."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.send_errors: list[BaseException] = []
        self.release = threading.Event()
        self.holding = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        handler = getattr(self, f"on_{scope['path'].strip('/') or 'root'}", self.on_root)
        await handler(Call(scope, receive, send))

    async def on_root(self, call: Call) -> None:
        body, more = b"", True
        while more:
            message = await call.receive()
            if message["type"] == "http.disconnect":
                self.messages.append(message)
                return
            body += message["body"]
            more = message["more_body"]
        answer = {"method": call.scope["method"], "path": call.scope["path"], "body": body.hex()}
        await reply(call.send, json.dumps(answer).encode())

    async def on_early(self, call: Call) -> None:
        await reply(call.send, b"early", status=401)

    async def on_hold(self, call: Call) -> None:
        self.holding.set()
        try:
            while not self.release.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        try:
            await reply(call.send, b"held")
        except OSError as error:
            self.send_errors.append(error)
            raise

    async def on_disconnect(self, call: Call) -> None:
        await call.receive()
        self.holding.set()
        self.messages.append(await call.receive())

    async def on_boom(self, _call: Call) -> None:
        raise RuntimeError("the secret is swordfish")

    async def on_half(self, call: Call) -> None:
        await call.send(start(200, [(b"content-length", b"10")]))
        await call.send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("in the middle")

    async def on_silent(self, _call: Call) -> None:
        pass

    async def on_inject(self, call: Call) -> None:
        await call.send(start(200, [(b"x-name", b"a\r\nset-cookie: b")]))

    async def on_stream(self, call: Call) -> None:
        await call.send(start(200, []))
        for _ in range(64):
            await call.send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await call.send({"type": "http.response.body", "body": b""})

    async def on_endless(self, call: Call) -> None:
        await call.send(start(200, []))
        try:
            while True:
                await call.send(
                    {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
                )
        except OSError as error:
            self.send_errors.append(error)
            raise


def start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def reply(send: Any, body: bytes, status: int = 200) -> None:
    await send(start(status, [(b"content-length", str(len(body)).encode())]))
    await send({"type": "http.response.body", "body": body})


# The server


class RecordedLog:
    """Keeps what is logged, as structlog would get it."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})

    warning = error = info

    def wait(self, event: str, **fields: Any) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            return next((line for line in list(self.lines) if _matches(line, event, fields)), None)

        return wait_for(find)

    def all(self, event: str) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line["event"] == event]


def _matches(line: dict[str, Any], event: str, fields: dict[str, Any]) -> bool:
    return line["event"] == event and all(line.get(k) == v for k, v in fields.items())


class Running:
    """A running server; methods are for the test's thread."""

    def __init__(self, listeners: Sequence[Listener], app: Any, loop: Any) -> None:
        self.app = app
        self.log = RecordedLog()
        self.listeners = {listener.name: listener for listener in listeners}
        self.loop = loop
        self.server = Server(app, listeners, log=self.log)
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)

    def begin(self) -> None:
        self._thread.start()
        self.wait(self.server.start())

    def end(self) -> None:
        self.wait(self.server.stop(grace_s=0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def submit(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        async def run() -> T:
            return function(*args)

        result: T = self.wait(run())
        return result

    def close_connections(self, predicate: Callable[[ConnectionInfo], bool]) -> int:
        return self.call(self.server.close_connections, predicate)

    @property
    def listener(self) -> Listener:
        return next(iter(self.listeners.values()))

    @property
    def port(self) -> int:
        return self.listener.port

    @property
    def open_connections(self) -> int:
        return sum(len(listener.connections) for listener in self.listeners.values())

    # Clients

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    def connect_tls(self, identity: Identity | None = None, **options: Any) -> ssl.SSLSocket:
        context = client_context(identity, **options)
        return context.wrap_socket(self.connect(), server_hostname="localhost")


def client_context(
    identity: Identity | None = None, *, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem(pki().server_ca.certificate))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if identity is not None:
        context.load_cert_chain(identity.file)
    return context


def try_tls(running: Running, identity: Identity | None, **options: Any) -> OSError | None:
    """Make a request over TLS; return the error that the client saw, ``None`` when it got in."""
    try:
        with running.connect_tls(identity, **options) as tls:
            tls.sendall(get())
            Reader(tls).answer()
    except (OSError, EOFError) as error:
        return error if isinstance(error, OSError) else ConnectionError("closed without an alert")
    return None


def quick(**changes: Any) -> Limits:
    """Limits whose deadlines a test can wait for."""
    short = Limits(
        handshake_s=0.3, header_s=0.3, body_s=0.3, write_s=0.3, keep_alive_s=0.3, linger_s=0.3
    )
    return replace(short, **changes)


@contextlib.contextmanager
def serving(
    *listeners: Listener, app: Any = None, loop: Callable[[], Any] = uvloop.new_event_loop
) -> Iterator[Running]:
    """Run listeners (a plain one when none is given) until the block ends."""
    given = listeners or (plain(),)
    running = Running(given, app or App(), loop())
    try:
        running.begin()
        yield running
    finally:
        if isinstance(running.app, App):
            running.app.release.set()
        running.end()


def plain(limits: Limits | None = None) -> Listener:
    return Listener("public", ("127.0.0.1", 0), None, limits)


def mutual(client_certificate: Any = "required", limits: Limits | None = None) -> Listener:
    return Listener("api", ("127.0.0.1", 0), pki().context(client_certificate), limits)


# Raw HTTP


def get(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def slug(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == self.status
        return str(document["type"].rpartition(":")[2])


class Reader:
    """Reads answers off a socket, one after another."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = b""

    def answer(self, *, head_only: bool = False) -> Answer:
        head = self._until(b"\r\n\r\n").decode()
        first, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        body = b"" if head_only else self._body(headers)
        return Answer(int(first.split()[1]), headers, body)

    def at_end(self) -> bool:
        """Whether the server closed, with nothing more to read; a reset is a close too."""
        try:
            return not self._buffer and not self._socket.recv(1)
        except OSError:
            return True

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size + 2)[:-2]
            self._exactly(2)
            return body
        return self._exactly(int(headers.get("content-length", "0")))

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise EOFError(f"the server closed after {self._buffer!r}")
        self._buffer += data


def ask(running: Running, request: bytes) -> Answer:
    """Send bytes on a plain connection and return the first answer."""
    with running.connect() as connected:
        connected.sendall(request)
        return Reader(connected).answer()
