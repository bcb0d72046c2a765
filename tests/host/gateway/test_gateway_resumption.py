"""Resumed TLS sessions: on the listener that is there for them, and on no other."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.x509.oid import NameOID
from gateway_kit import Requester
from gateway_live import Identity, Live, copy_of, wait_for

from handfast.errors import EnvironmentProblem
from handfast.lab.gateway_process import GatewayOptions
from handfast.pki.authorities import Authority
from handfast.pki.issue import issue_admin_leaf
from handfast.state import StateDir

PING = b"GET /v1/ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
RECONNECTS = 5  # what s_client does with -reconnect
every_other_listener = pytest.mark.parametrize("listener", ["api", "enrol", "admin-tls"])
_names = (f"resuming-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def live(ca_folder: StateDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    state = copy_of(ca_folder, tmp_path_factory.mktemp("gateway"))
    options = GatewayOptions(resume_port=0, admin_port=0)
    with Live(state, options, tmp_path_factory.mktemp("ids")) as gateway:
        yield gateway


@pytest.fixture
def identity(live: Live) -> Identity:
    return live.enrolled(next(_names))


@pytest.fixture(scope="module")
def administrator(live: Live, authorities: dict[str, Authority]) -> Identity:
    key, now = Requester.new(), datetime.now(UTC)
    public_key = key.key.public_key()
    leaf = issue_admin_leaf(
        authorities["admin"], name="Ada", public_key=public_key, lifetime_s=3600, now=now
    )
    return Identity(key, leaf, live.folder)


def s_client(live: Live, listener: str, identity: Identity, *options: object) -> str:
    """Ping as whose certificate it is, return all that s_client printed."""
    url = urlsplit(live.urls[listener])
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{url.port}", "-ign_eof"]
    command += ["-cert", identity.file, "-key", identity.file, "-servername", "localhost"]
    command += ["-CAfile", live.state.ca_certificate_pem("root"), "-verify_return_error"]
    ended = subprocess.run(
        [*map(str, command), *map(str, options)],
        input=PING,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return (ended.stdout + ended.stderr).decode(errors="replace")


@pytest.fixture
def session(live: Live, identity: Identity, tmp_path: Path) -> Path:
    """A session of the device's, which was served with it."""
    file = tmp_path / "session.pem"
    said = s_client(live, "api-resume", identity, "-tls1_2", "-sess_out", file)
    assert "HTTP/1.1 200 OK" in said, said
    assert "New, TLSv1.2" in said
    return file


def resumed(live: Live, identity: Identity, session: Path) -> tuple[int, str]:
    """Ping in a resumed session; return the status and the problem's slug, if there is one."""
    said = s_client(live, "api-resume", identity, "-tls1_2", "-sess_in", session)
    assert "Reused, TLSv1.2" in said, said
    status = int(said.partition("HTTP/1.1 ")[2][:3])
    problem: dict[str, Any] = json.loads(said[said.index('{"') : said.rindex("}") + 1])
    return status, str(problem.get("type", "")).rpartition(":")[2]


def test_device_resumes_its_session_on_the_listener_for_it(live: Live, identity: Identity) -> None:
    said = s_client(live, "api-resume", identity, "-tls1_2", "-reconnect")
    assert said.count("Reused, TLSv1.2") == RECONNECTS, said
    assert "TLS session ticket:" not in said


@every_other_listener
def test_every_other_listener_never_resumes_by_tls_1_2(
    live: Live, identity: Identity, administrator: Identity, listener: str
) -> None:
    who = administrator if listener == "admin-tls" else identity
    said = s_client(live, listener, who, "-tls1_2", "-reconnect")
    assert "HTTP/1.1 " in said, said  # its certificate was accepted
    assert "Reused" not in said
    assert said.count("New, TLSv1.2") == RECONNECTS + 1, said


@every_other_listener
def test_every_other_listener_never_resumes_by_tls_1_3(
    live: Live, identity: Identity, administrator: Identity, listener: str, tmp_path: Path
) -> None:
    """The tickets come after the handshake, when -reconnect is already gone: keep one, show it."""
    who = administrator if listener == "admin-tls" else identity
    ticket = tmp_path / "ticket.pem"
    assert "HTTP/1.1 " in s_client(live, listener, who, "-tls1_3", "-sess_out", ticket)
    assert "BEGIN SSL SESSION PARAMETERS" in ticket.read_text()
    for _ in range(3):
        said = s_client(live, listener, who, "-tls1_3", "-sess_in", ticket)
        assert "HTTP/1.1 " in said, said
        assert "Reused" not in said
        assert said.count("New, TLSv1.3") == 1, said


def test_session_is_of_no_use_at_another_listener(
    live: Live, identity: Identity, session: Path
) -> None:
    said = s_client(live, "api", identity, "-tls1_2", "-sess_in", session)
    assert "New, TLSv1.2" in said, said
    assert "HTTP/1.1 200 OK" in said


def test_device_revoked_between_two_resumptions_is_refused(
    live: Live, identity: Identity, session: Path
) -> None:
    assert resumed(live, identity, session) == (200, "")
    live.admin.revoke(_device_of(identity))
    assert resumed(live, identity, session) == (403, "device-revoked")


def test_suspended_device_is_refused_in_a_resumed_session_until_it_is_let_in_again(
    live: Live, identity: Identity, session: Path
) -> None:
    device_id = _device_of(identity)
    live.admin.suspend(device_id)
    assert resumed(live, identity, session) == (403, "device-suspended")
    live.admin.resume(device_id)
    assert resumed(live, identity, session) == (200, "")


def test_resumption_is_in_the_log(live: Live, identity: Identity, session: Path) -> None:
    resumed(live, identity, session)
    device_id = _device_of(identity)
    lines = _log(live, "request", device_id=device_id, listener="api-resume")
    assert [line.get("resumed", False) for line in lines] == [False, True]


def test_session_without_extended_master_secret_is_refused(
    live: Live, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n"
        "[c]\nOptions = -ExtendedMasterSecret\n"
    )
    monkeypatch.setenv("OPENSSL_CONF", str(configuration))
    said = s_client(live, "api-resume", identity, "-tls1_2")
    assert "Extended master secret: no" in said
    assert "HTTP/1.1" not in said, said
    wait_for(lambda: _log(live, "tls_refused", reason="no-extended-master-secret") or None)
    assert "HTTP/1.1 200 OK" in s_client(live, "api", identity, "-tls1_2")


def test_tls_1_3_is_refused_where_sessions_are_resumed(live: Live, identity: Identity) -> None:
    assert "alert protocol version" in s_client(live, "api-resume", identity, "-tls1_3")


@pytest.mark.parametrize(("listener", "type_"), [("api-resume", "RSA"), ("api", "RSA-PSS")])
def test_server_signs_for_boards_by_what_they_can_read_in_tls_1_2(
    live: Live, identity: Identity, listener: str, type_: str
) -> None:
    """mbedTLS 3.6 offers PSS before PKCS#1 when it speaks TLS 1.3 too (decision 0024)."""
    board = ("-cipher", "ECDHE-RSA-AES128-GCM-SHA256")
    board += ("-sigalgs", "RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA256")
    board += ("-CAfile", str(live.state.ca_certificate_pem("server")), "-partial_chain")
    said = s_client(live, listener, identity, "-tls1_2", *board)
    assert f"Peer signature type: {type_}\n" in said, said
    assert "HTTP/1.1 200 OK" in said


def test_session_does_not_outlive_its_certificate(ca_folder: StateDir, tmp_path: Path) -> None:
    state = copy_of(ca_folder, tmp_path / "state")
    with Live(state, GatewayOptions(resume_port=0, device_lifetime_s=3), tmp_path) as short:
        identity, session = short.enrolled("short-lived"), tmp_path / "session.pem"
        said = s_client(short, "api-resume", identity, "-tls1_2", "-sess_out", session)
        assert "HTTP/1.1 200 OK" in said, said
        end = identity.certificate.not_valid_after_utc.timestamp()
        wait_for(lambda: time.time() > end + 1 or None)
        assert resumed(short, identity, session) == (401, "certificate-expired")


def test_nobody_resumes_unless_it_is_asked_for(ca_folder: StateDir, tmp_path: Path) -> None:
    with Live(copy_of(ca_folder, tmp_path / "state"), GatewayOptions(), tmp_path) as gateway:
        assert "api-resume" not in gateway.urls
        busy = urlsplit(gateway.urls["api"]).port
        second = Live(
            copy_of(ca_folder, tmp_path / "other"), GatewayOptions(resume_port=busy), tmp_path
        )
        with pytest.raises(Exception, match="--resume-port") as refused:
            second.start()
    assert getattr(refused.value, "exit_code", None) == EnvironmentProblem.exit_code


def _device_of(identity: Identity) -> str:
    (name,) = identity.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def _log(live: Live, event: str, **fields: object) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in live.state.gateway_log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event and fields.items() <= line.items()]
