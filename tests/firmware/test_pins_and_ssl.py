"""Pinned keys, and TLS for protocols of the application's own, on MicroPython."""

from __future__ import annotations

import ast
import hashlib
import json
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from device_pki import rsa_key
from hostile_peer import OK, answer, read_request, serving
from mtls.errors import ConfigError
from mtls.pin import Pins, spki_sha256
from test_client_on_board import server_ca, server_context
from test_rest_on_board import Rest, context, rest

from handfast.resources import firmware_dir

__all__ = ["context", "rest"]  # fixtures


def pin(name: str) -> str:
    key = rsa_key(name).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def test_a_pin_is_the_digest_of_a_certificate_s_public_key() -> None:
    assert spki_sha256(server_ca().make().public_bytes(Encoding.DER)).hex() == pin("server")


def test_damaged_certificates_match_no_pin_and_raise_nothing() -> None:
    der = server_ca().make().public_bytes(Encoding.DER)
    for cut in range(0, len(der), 7):
        pins = Pins([bytes(32)])
        assert pins.verify(memoryview(der)[:cut], 0) == -1
        assert pins.refused


def test_any_certificate_of_the_path_may_hold_the_pin_and_paths_do_not_mix() -> None:
    ca = server_ca().make().public_bytes(Encoding.DER)
    other = server_ca("other").make().public_bytes(Encoding.DER)
    pins = Pins([pin("server")])
    assert [pins.verify(ca, 1), pins.verify(other, 0)] == [0, 0]
    assert [pins.verify(other, 1), pins.verify(other, 0)] == [0, -1]
    assert [pins.verify(other, 1), pins.verify(ca, 0)] == [0, 0]


@pytest.mark.parametrize("bad", ["", "00", "x" * 64, b"short"])
def test_a_pin_that_is_no_digest_is_told(bad: object) -> None:
    with pytest.raises(ConfigError):
        Pins([bad])


@pytest.mark.parametrize("pinned", [["server"], ["leaf"], ["other", "server"]])
def test_a_pinned_server_is_called(rest: Rest, context: ssl.SSLContext, pinned: list[str]) -> None:
    pins = [pin(name) for name in pinned]
    with serving(answer(OK), context=context) as (port, _):
        assert rest(port, "out.append(session.get('/x').text)", pins=pins) == ["hi"]


def test_a_server_without_a_pinned_key_is_untrusted_and_sent_nothing(
    rest: Rest, context: ssl.SSLContext
) -> None:
    heard = []
    with serving(lambda c: heard.append(read_request(c)), context=context) as (port, _):
        [error] = rest(port, "session.get('/x')", pins=[pin("other")])
    assert error[0] == "Untrusted"
    assert "pinned" in error[1]
    assert not any(heard)


def test_a_pin_excuses_nothing_that_verification_finds(rest: Rest, tmp_path: Path) -> None:
    context = server_context(tmp_path, "other")
    with serving(answer(OK), context=context) as (port, _):
        [error] = rest(port, "session.get('/x')", pins=[pin("other"), pin("leaf")])
    assert error[0] == "Untrusted"


# mtls.ssl

WRAP = """
import socket
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", int(url.split(":")[2]))[0][-1])
from mtls import ssl
"""
CALL = """
stream.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
out.append(stream.read(15).decode())
"""


def test_a_context_of_the_store_s_serves_another_protocol(
    rest: Rest, context: ssl.SSLContext
) -> None:
    lines = (
        WRAP + "stream = ssl.context(store, None).wrap_socket(sock, server_hostname='127.0.0.1')"
    )
    with serving(answer(OK), context=context) as (port, _):
        assert rest(port, lines + CALL) == ["HTTP/1.1 200 OK"]


@pytest.mark.parametrize("ca", ["server", "other"])
def test_wrap_socket_verifies_by_default(rest: Rest, tmp_path: Path, ca: str) -> None:
    # A mere interpreter has no /mtls: its own identity and anchors are set in their place.
    lines = WRAP + (
        "import mtls.store, mtls.ssl\n"
        "mtls.ssl.choose_identity = lambda *_: None\n"
        "mtls.store.Store = lambda: store\n"
        "stream = ssl.wrap_socket(sock, server_hostname='127.0.0.1')"
    )
    with serving(answer(OK), context=server_context(tmp_path, ca)) as (port, _):
        [outcome] = rest(port, lines + CALL)
    if ca == "server":
        assert outcome == "HTTP/1.1 200 OK"
    else:
        assert outcome[0] == "Untrusted"


@pytest.mark.parametrize("options", ["", "server_hostname='x', cert_reqs=0", "server_side=True"])
def test_wrap_socket_cannot_be_told_not_to_verify(rest: Rest, options: str) -> None:
    [error] = rest(1, f"from mtls import ssl\nssl.wrap_socket(None, {options})")
    assert error[0] == "ConfigError"


def test_a_firmware_s_ssl_that_verifies_nothing_changes_nothing(rest: Rest, tmp_path: Path) -> None:
    model = Path(__file__).parent / "ssl_model"
    insecure = f"""
sys.path.insert(0, {json.dumps(str(model))})
import ssl as theirs
import socket
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", int(url.split(":")[2]))[0][-1])
stream = theirs.wrap_socket(sock, server_hostname="127.0.0.1")
stream.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
out.append(stream.read(15).decode())
stream.close()
session.get("/x")
"""
    with serving(answer(OK), context=server_context(tmp_path, "other")) as (port, _):
        theirs, ours = rest(port, insecure)
    assert theirs == "HTTP/1.1 200 OK"
    assert ours[0] == "Untrusted"


def test_the_library_never_imports_ssl(rest: Rest, context: ssl.SSLContext) -> None:
    lines = "session.get('/x')\nimport mtls.ssl\nimport mtls.aio\nout.append('ssl' in sys.modules)"
    with serving(answer(OK), context=context) as (port, _):
        assert rest(port, lines) == [False]


def test_no_module_of_the_library_names_ssl_in_an_import_but_its_own() -> None:
    for path in (firmware_dir() / "mtls").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert "ssl" not in {one.name for one in node.names}, path.name
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module != "ssl", path.name


def test_no_context_verifies_only_what_it_happens_to_be_shown() -> None:
    """CERT_OPTIONAL goes on after a failure to verify (RFC 7030 4.1.1's fetch does without it)."""
    sources = list(firmware_dir().rglob("*.py"))
    assert any("CERT_REQUIRED" in path.read_text() for path in sources)
    assert [path.name for path in sources if "CERT_OPTIONAL" in path.read_text()] == []
