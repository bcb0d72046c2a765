"""`mtls.ssl.wrap_socket`: MicroPython's signature, each argument of it, on MicroPython."""

from __future__ import annotations

import ast
import re
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cut_power import library
from device_interpreter import BOARDS
from device_pki import Plan, rsa_key
from hostile_peer import OK, answer, serving
from mtls.custody import pack_identity
from test_client_on_board import HOUR, NOW, server_ca, server_context
from test_rest_on_board import Rest, rest

from handfast.boards.archives import unpack
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.boards.sources import fetch, find_source
from handfast.resources import firmware_dir

__all__ = ["rest"]  # a fixture

VERSIONS = ("1.25.0", "1.26.1")
# A mere interpreter has no /mtls: its own identity and anchors are set in their place.
WRAP = """
import socket
import mtls.ssl, mtls.store
mtls.store.Store = lambda: store
choose = mtls.ssl.choose_identity
mtls.ssl.choose_identity = lambda store, one: None if one == "current" else choose(store, one)
def content(name):
    with open(name, "rb") as file:
        return file.read()
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", int(url.split(":")[2]))[0][-1])
"""
CALL = """
stream.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
out.append(stream.read(15).decode())
"""
ANSWERED = "HTTP/1.1 200 OK"


def wrap(arguments: str) -> str:
    return f"{WRAP}stream = mtls.ssl.wrap_socket(sock, server_hostname='127.0.0.1', {arguments})\n"


# The signature


def documented(version: str, folder: Path) -> ast.arguments:
    """Return the arguments that MicroPython's own documentation gives for ssl.wrap_socket."""
    unpack(fetch(find_source("micropython", version)), folder, parts=("docs/library/ssl.rst",))
    text = (folder / "docs/library/ssl.rst").read_text("utf-8")
    found = re.search(r"function:: ssl\.wrap_socket\((.*)\)", text)
    assert found
    (function,) = ast.parse(f"def wrap_socket({found[1]}): pass").body
    assert isinstance(function, ast.FunctionDef)
    return function.args


@pytest.mark.parametrize("version", VERSIONS)
def test_it_takes_what_micropython_s_takes_and_verifies_by_default(
    tmp_path: Path, version: str
) -> None:
    theirs = documented(version, tmp_path)
    source = ast.parse((firmware_dir() / "mtls/ssl.py").read_text("utf-8"))
    ours = next(
        node.args
        for node in source.body
        if isinstance(node, ast.FunctionDef) and node.name == "wrap_socket"
    )
    assert [a.arg for a in ours.args] == [a.arg for a in theirs.args]
    differ = [
        (argument.arg, ast.unparse(default))
        for argument, default, their in zip(
            ours.args[1:], ours.defaults, theirs.defaults, strict=True
        )
        if ast.unparse(default) != ast.unparse(their)
    ]
    assert differ == [("cert_reqs", "CERT_REQUIRED")]
    assert [ours.posonlyargs, ours.vararg, ours.kwonlyargs, ours.kwarg] == [[], None, [], None]


# cadata


@pytest.mark.parametrize("ca", ["server", "other"])
def test_cadata_takes_the_place_of_the_store_s_anchors(rest: Rest, tmp_path: Path, ca: str) -> None:
    (tmp_path / "other.der").write_bytes(server_ca("other").make().public_bytes(Encoding.DER))
    with serving(answer(OK), context=server_context(tmp_path, ca)) as (port, _):
        [outcome] = rest(port, wrap("cadata=content('other.der')") + CALL)
    if ca == "other":
        assert outcome == ANSWERED
    else:
        assert outcome[0] == "Untrusted"


# key and cert


def device_leaf(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    end = NOW + timedelta(hours=1)
    issuer = rsa_key("device")
    return Plan("board", key, "device", issuer, not_before=NOW - HOUR, not_after=end).make()


@pytest.fixture
def demanding(tmp_path: Path) -> ssl.SSLContext:
    """A server's context that wants a certificate of the CA `device`."""
    context = server_context(tmp_path)
    ca = server_ca("device").make()
    context.load_verify_locations(cadata=ca.public_bytes(Encoding.PEM).decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def write_pair(folder: Path, *, of_another: bool = False) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    certified = ec.generate_private_key(ec.SECP256R1()) if of_another else key
    encoded = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "key.der").write_bytes(encoded)
    (folder / "cert.der").write_bytes(device_leaf(certified).public_bytes(Encoding.DER))
    return key


PAIR = "key=content('key.der'), cert=content('cert.der')"


def test_key_and_cert_take_the_place_of_the_board_s_own(
    rest: Rest, tmp_path: Path, demanding: ssl.SSLContext
) -> None:
    key = write_pair(tmp_path)
    presented: list[bytes | None] = []

    def look(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        presented.append(connection.getpeercert(binary_form=True))
        answer(OK)(connection)

    with serving(look, context=demanding) as (port, _):
        assert rest(port, wrap(PAIR) + CALL) == [ANSWERED]
    assert presented[0] is not None
    assert x509.load_der_x509_certificate(presented[0]).public_key() == key.public_key()


def test_without_them_such_a_server_is_not_satisfied(rest: Rest, demanding: ssl.SSLContext) -> None:
    lines = f"try:\n    {'    '.join((wrap('') + CALL).splitlines(keepends=True))}"
    lines += "\nexcept (OSError, MTLSError) as error:\n    out.append('refused')"
    with serving(answer(OK), context=demanding) as (port, _):
        assert rest(port, lines) == ["refused"]


def test_a_cert_for_another_key_is_told_and_nothing_sent(rest: Rest, tmp_path: Path) -> None:
    write_pair(tmp_path, of_another=True)
    heard: list[bytes] = []
    with serving(lambda c: heard.append(c.recv(1))) as (port, _):
        [error] = rest(port, wrap(PAIR))
    assert error == ["StoreDamaged", "the certificate given is for another key"]
    assert not any(heard)


# The board's own: a board with the library, its state at /mtls, and nothing set in their place

OWN = """
import socket
from mtls import ssl
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", PORT)[0][-1])
stream = ssl.wrap_socket(sock, server_hostname="127.0.0.1")
stream.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
print(stream.read(15).decode())
stream.close()
"""


@pytest.mark.parametrize(("profile", "version"), BOARDS.values(), ids=BOARDS)
def test_without_key_and_cert_the_slot_that_counts_is_presented(
    tmp_path: Path, demanding: ssl.SSLContext, profile: str, version: str | None
) -> None:
    slots = {name: ec.generate_private_key(ec.SECP256R1()) for name in "ab"}
    leaves = {name: device_leaf(key).public_bytes(Encoding.DER) for name, key in slots.items()}
    files = {
        f"/mtls/slot-{name}": pack_identity(
            key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
            leaves[name],
        )
        for name, key in slots.items()
    }
    files["/mtls/current"] = b"b\n"
    files["/mtls/anchor/tls-0.der"] = server_ca().make().public_bytes(Encoding.DER)
    modules = [path.stem for path in (firmware_dir() / "mtls").glob("*.py")]
    presented: list[bytes | None] = []

    def look(connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        presented.append(connection.getpeercert(binary_form=True))
        answer(OK)(connection)

    with (
        SimulatedBoard(profile, directory=tmp_path / "board", micropython=version) as board,
        serving(look, context=demanding) as (port, _),
    ):
        board.power_on(rtc=int(NOW.timestamp()))
        with SerialLink.open(board.serial_url) as link:
            link.push({**library(*modules), **files})
            link.soft_reset()
            assert link.exec(f"PORT = {port}\n{OWN}").split("\n")[0].strip() == ANSWERED
    assert presented == [leaves["b"]]


# do_handshake


@pytest.mark.parametrize("ca", ["server", "other"])
def test_without_do_handshake_the_first_write_does_it_and_verifies(
    rest: Rest, tmp_path: Path, ca: str
) -> None:
    lines = wrap("do_handshake=False") + "out.append('wrapped')\n"
    lines += f"try:\n    {'    '.join(CALL.strip().splitlines(keepends=True))}"
    lines += "\nexcept (OSError, ValueError) as error:\n    out.append(type(error).__name__)"
    with serving(answer(OK), context=server_context(tmp_path, ca)) as (port, _):
        wrapped, outcome = rest(port, lines)
    assert wrapped == "wrapped", "a server that is not trusted is noticed by who talks to it"
    assert outcome == (ANSWERED if ca == "server" else "ValueError")


def test_with_do_handshake_it_is_over_when_wrap_socket_returns(rest: Rest, tmp_path: Path) -> None:
    lines = wrap("do_handshake=True") + "out.append(stream.cipher()[1])"
    with serving(answer(OK), context=server_context(tmp_path)) as (port, _):
        assert rest(port, lines) == ["TLSv1.2"]


def hang_up(connection: socket.socket) -> None:
    connection.recv(4096)  # the client's hello


def test_a_peer_that_hangs_up_without_a_word_refuses_nothing(rest: Rest) -> None:
    with serving(hang_up) as (port, _):
        [[error, text]] = rest(port, wrap(""))
    assert error == "Unreachable"
    assert "hung up" in text


@pytest.mark.parametrize("half", ["key", "cert"])
def test_half_of_a_pair_is_told_and_nothing_sent(rest: Rest, tmp_path: Path, half: str) -> None:
    write_pair(tmp_path)
    with serving(answer(OK)) as (port, _):
        [[error, text]] = rest(port, wrap(f"{half}=content('{half}.der')"))
    assert error == "ConfigError"
    assert "together" in text
