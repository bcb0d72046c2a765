"""The attackers' processes: apart from the gateway, and gone when whoever started them is."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from handfast.errors import CheckFailed
from handfast.lab.demo.intruders.attackers import AttackerProcess
from handfast.lab.demo.intruders.attempt import Answer, Attempt, Expected, Tls
from handfast.lab.demo.intruders.client import Client
from support_server import mutual, serving
from support_server_pki import pem, pki

CALL = Attempt("api", "GET", "/", Expected(), number=5)

STARTER = """
import sys, time
from pathlib import Path
from handfast.lab.demo.intruders.attackers import AttackerProcess
attacker = AttackerProcess({}, "", source="127.0.0.1", folder=Path(sys.argv[1]))
print(attacker.pid, flush=True)
time.sleep(600)
"""


def attacker(folder: Path, port: int = 1) -> AttackerProcess:
    urls = {"api": f"https://localhost:{port}"}
    return AttackerProcess(urls, pem(pki().root.certificate), source="127.77.0.1", folder=folder)


def client(port: int, scratch: Path) -> Client:
    urls = {"api": f"https://localhost:{port}"}
    return Client(urls, pem(pki().root.certificate), source="127.0.0.1", scratch=scratch)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_an_attacker_knows_nothing_of_the_gateway() -> None:
    code = "import sys, handfast.lab.demo.intruders.attacker; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "handfast.lab.demo.intruders.client" in loaded
    assert [name for name in loaded if name.startswith("handfast.gateway")] == []


def test_each_attempt_is_a_connection_from_an_address_of_its_own(tmp_path: Path) -> None:
    with serving(mutual("optional")) as running, attacker(tmp_path, running.port) as process:
        answers = [process.make(CALL) for _ in range(5)]
        assert [(a.number, a.status, a.error) for a in answers] == [(5, 200, "")] * 5
        peers = ["{}:{}".format(*scope["client"]) for scope in running.app.scopes]
    assert [answer.peer for answer in answers] == peers
    assert len(set(peers)) == 5
    assert all(peer.startswith("127.77.0.1:") for peer in peers)
    assert [path.suffix for path in tmp_path.iterdir()] == [".log"]  # no key is left


def test_a_refusal_is_an_answer_and_no_error(tmp_path: Path) -> None:
    with serving(mutual()) as running, attacker(tmp_path, running.port) as process:
        answer = process.make(CALL)
        line = running.log.wait("tls_refused", peer=answer.peer)
    assert (answer.status, line["reason"]) == (None, "no-certificate")
    assert "handshake failure" in answer.error


def test_nobody_listening_is_an_answer_too(tmp_path: Path) -> None:
    with attacker(tmp_path, 1) as process:
        answer = process.make(CALL)
    assert answer.status is None
    assert "refused" in answer.error


def test_a_session_that_was_never_kept_cannot_be_resumed(tmp_path: Path) -> None:
    with serving(mutual("optional")) as running:
        answer = client(running.port, tmp_path).make(replace(CALL, resumes="nothing"))
    assert "no session" in answer.error


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_kept_session_is_resumed_where_a_server_lets_it(version: Tls, tmp_path: Path) -> None:
    """Otherwise an attempt to resume one would prove nothing."""
    chain = tmp_path / "chain.pem"
    chain.write_text(Path(pki().p256_leaf.file).read_text() + pem(pki().server_ca.certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_calls, args=(listener, context, 2))
        thread.start()
        caller = client(listener.getsockname()[1], tmp_path)
        first = caller.make(replace(CALL, tls=version, keeps="it"))
        second = caller.make(replace(CALL, tls=version, resumes="it"))
        thread.join(20)
    assert [(a.status, a.resumed, a.error) for a in (first, second)] == [
        (200, False, ""),
        (200, True, ""),
    ]


def answer_calls(listener: socket.socket, context: ssl.SSLContext, number: int) -> None:
    for _ in range(number):
        connection, _ = listener.accept()
        connection.settimeout(10)
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def test_an_attacker_that_is_gone_fails_the_check(tmp_path: Path) -> None:
    with attacker(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: is_gone(process.pid), "it goes on")
        with pytest.raises(CheckFailed, match="is gone"):
            process.make(CALL)


def test_an_attacker_that_hangs_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handfast.lab.demo.intruders.attackers._ANSWER_S", 0.1)
    with attacker(tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(CheckFailed, match="does not answer"):
            process.make(CALL)
    assert is_gone(process.pid)


def test_closing_ends_an_attempt_that_is_waited_for(tmp_path: Path) -> None:
    process = attacker(tmp_path)
    os.kill(process.pid, signal.SIGSTOP)  # it will not answer by itself
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            process.make(CALL)
        except CheckFailed as error:
            failed.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    process.close()
    thread.join(20)
    assert len(failed) == 1
    assert is_gone(process.pid)
    with pytest.raises(CheckFailed, match="is gone"):
        process.make(CALL)


def test_closing_lets_an_attempt_under_way_end_and_leaves_no_key(tmp_path: Path) -> None:
    answers: list[Answer] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        attacker(tmp_path, listener.getsockname()[1]) as process,
    ):
        thread = threading.Thread(target=lambda: answers.append(process.make(CALL)))
        thread.start()
        listener.settimeout(20)
        connection, _ = listener.accept()  # it is under way
        closing = threading.Thread(target=process.close)
        closing.start()
        closing.join(0.2)
        connection.close()
        thread.join(20)
        closing.join(20)
    assert len(answers) == 1
    assert is_gone(process.pid)
    assert [path.suffix for path in tmp_path.iterdir()] == [".log"]


def test_what_a_killed_attacker_left_of_a_key_is_removed(tmp_path: Path) -> None:
    process = attacker(tmp_path)
    os.kill(process.pid, signal.SIGSTOP)
    (scratch,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert scratch.stat().st_mode & 0o777 == 0o700
    (scratch / "key").touch()
    process.close()
    assert is_gone(process.pid)
    assert not scratch.exists()


def test_an_attacker_ends_when_who_started_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert not is_gone(pid)
        starter.kill()
    wait_until(lambda: is_gone(pid), "the attacker goes on alone")
