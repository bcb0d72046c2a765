"""The firmware cache against a local HTTP server that breaks off, changes its mind or lies."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from handfast.boards.flash import firmware
from handfast.boards.flash.firmware import fetch_firmware, local_firmware
from handfast.errors import EnvironmentProblem, Refused, Unreachable

CONTENT = Random(9).randbytes(300_000)  # noqa: S311 - the same octets each time
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` with an ETag and ranges; ``cuts`` are bytes after which it hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.etag = CONTENT, '"1"'
        self.cuts: list[int] = []
        self.asked: list[str | None] = []
        self.authorizations: list[str | None] = []
        self.status: int | None = None
        self.leads_to: str | None = None
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/firmware.bin"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        self.server.authorizations.append(self.headers["Authorization"])
        if self.server.status is not None:
            self.send_error(self.server.status)
            return
        if self.server.leads_to is not None:
            self.send_response(302)
            self.send_header("Location", self.server.leads_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted[6:-1]) if wanted else 0
        if not self.server.ranges or self.headers["If-Range"] != self.server.etag:
            start = 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.etag)
        if start:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_once(server):
    first = fetch_firmware(server.url, sha256=SHA256)
    again = fetch_firmware(server.url, sha256=SHA256)
    assert first.path.read_bytes() == CONTENT
    assert first.path.name == "firmware.bin"
    assert (again, first.recorded) == (first, True)
    assert server.asked == [None]


def test_a_hash_in_capitals_is_the_same(server):
    first = fetch_firmware(server.url, sha256=SHA256.upper())
    again = fetch_firmware(server.url, sha256=SHA256.upper())
    assert (first.sha256, again) == (SHA256, first)
    assert server.asked == [None]


def test_a_download_that_breaks_off_is_continued(server):
    server.cuts = [100_000, 50_000]
    done = fetch_firmware(server.url, sha256=SHA256)
    assert done.path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_continues_too(server, monkeypatch):
    monkeypatch.setattr(firmware, "_ATTEMPTS", 1)
    server.cuts = [120_000, 0]
    with pytest.raises(Unreachable, match="--firmware"):
        fetch_firmware(server.url, sha256=SHA256)
    assert fetch_firmware(server.url, sha256=SHA256).path.read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=120000-"


@pytest.mark.parametrize("change", ["etag", "ranges"])
def test_a_part_of_another_file_is_not_continued(server, monkeypatch, change):
    monkeypatch.setattr(firmware, "_ATTEMPTS", 1)
    server.content, server.cuts = CONTENT[::-1], [120_000, 0]
    with pytest.raises(Unreachable):
        fetch_firmware(server.url, sha256=SHA256)
    server.content = CONTENT
    if change == "etag":
        server.etag = '"2"'
    else:
        server.ranges = False
    assert fetch_firmware(server.url, sha256=SHA256).path.read_bytes() == CONTENT


def test_another_file_than_recorded_is_refused_and_not_kept(server):
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(Refused, match="SHA-256"):
        fetch_firmware(server.url, sha256=SHA256)
    server.content = CONTENT
    assert fetch_firmware(server.url, sha256=SHA256).path.read_bytes() == CONTENT


def test_a_file_damaged_in_the_cache_is_fetched_again(server):
    done = fetch_firmware(server.url, sha256=SHA256)
    done.path.write_bytes(CONTENT[:-1])
    assert fetch_firmware(server.url, sha256=SHA256).path.read_bytes() == CONTENT


def test_without_a_hash_plain_http_is_refused(server):
    with pytest.raises(Refused, match="--sha256"):
        fetch_firmware(server.url, sha256=None)
    assert server.asked == []


@pytest.fixture
def https(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return server.url.replace("http:", "https:")


def test_without_a_hash_the_first_one_over_https_is_remembered(server, https):
    first = fetch_firmware(https, sha256=None)
    assert (first.sha256, first.recorded) == (SHA256, False)
    first.path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(Refused, match="another file"):
        fetch_firmware(https, sha256=None)


def test_the_hash_that_is_given_takes_the_place_of_the_remembered_one(server, https):
    fetch_firmware(https, sha256=None)
    server.content = CONTENT[::-1]
    given = fetch_firmware(https, sha256=hashlib.sha256(server.content).hexdigest())
    assert given.path.read_bytes() == server.content
    again = fetch_firmware(https, sha256=None)
    assert (again.path, again.sha256) == (given.path, given.sha256)
    assert len(server.asked) == 2
    server.content = CONTENT
    given.path.unlink()
    with pytest.raises(Refused, match="another file"):
        fetch_firmware(https, sha256=None)


@pytest.fixture
def plain(server: Server) -> Iterator[Server]:
    """Another server beside it, without TLS."""
    assert server.server_port
    with Server() as plain:
        thread = threading.Thread(target=plain.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plain
        plain.shutdown()
        thread.join()


def test_without_a_hash_https_that_leads_to_plain_http_is_refused(server, https, plain):
    server.leads_to = plain.url
    with pytest.raises(Refused, match=r"leads to http:.*--sha256"):
        fetch_firmware(https, sha256=None)
    assert plain.asked == []
    assert fetch_firmware(https, sha256=SHA256).path.read_bytes() == CONTENT
    assert plain.asked == [None]


def test_a_server_that_says_no_is_said_so(server):
    server.status = 404
    with pytest.raises(Unreachable, match="404"):
        fetch_firmware(server.url, sha256=SHA256)


def test_a_file_beyond_any_flash_is_given_up(server, monkeypatch):
    monkeypatch.setattr(firmware, "_MOST_BYTES", 100_000)
    with pytest.raises(Refused, match="larger"):
        fetch_firmware(server.url, sha256=SHA256)


def test_a_file_at_hand_needs_no_network(tmp_path):
    file = tmp_path / "mine.bin"
    file.write_bytes(CONTENT)
    assert local_firmware(file).sha256 == SHA256
    assert local_firmware(file, sha256=SHA256.upper()).recorded
    with pytest.raises(Refused, match="another file"):
        local_firmware(file, sha256="0" * 64)
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        local_firmware(tmp_path / "none")


def test_a_user_s_password_goes_to_the_server_and_is_not_shown(server: Server) -> None:
    url = server.url.replace("//", "//ada:pa%2Fss@")
    with pytest.raises(Refused) as other:
        fetch_firmware(url, sha256="0" * 64)
    server.status = 404
    with pytest.raises(Unreachable, match="answers 404") as missing:
        fetch_firmware(url, sha256=SHA256)
    assert set(server.authorizations) == {"Basic YWRhOnBhL3Nz"}
    for told in (str(other.value), str(missing.value)):
        assert server.url in told
        assert "ada" not in told
        assert "ss@" not in told


@pytest.mark.parametrize("password", ["pa/ss", "12/ss", "p@a?ss", "pass#"])
def test_a_password_that_is_not_encoded_is_neither_used_nor_shown(
    server: Server, password: str
) -> None:
    with pytest.raises(Refused, match="/ as %2F") as caught:
        fetch_firmware(server.url.replace("//", f"//ada:{password}@"), sha256=SHA256)
    assert str(caught.value).startswith(f"not an address of a file: {server.url} has an @")
    assert server.asked == []


@pytest.mark.parametrize("url", ["https://[::1/x", "https://h:port/x", "https:///x", "a b", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Refused, match="not an address of a file"):
        fetch_firmware(url, sha256=SHA256)
