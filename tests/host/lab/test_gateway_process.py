"""A gateway that someone else started ends with them, whatever happens to them."""

from __future__ import annotations

import ipaddress
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from handfast.errors import EnvironmentProblem, HandfastError
from handfast.lab.gateway_process import BOARDS_URLS, GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

PASSPHRASE = b"a passphrase for tests"

STARTER = """
import sys, time
from pathlib import Path
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.state import StateDir
with GatewayProcess(StateDir(Path(sys.argv[1])), sys.argv[2].encode(), GatewayOptions()) as gateway:
    print(gateway.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("gateway-process"))
    create_authorities(state, PASSPHRASE, trust_domain="example.test")
    return state


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


class _Interrupted(GatewayProcess):
    """Ctrl-C comes while the gateway is starting."""

    started = 0

    def _ready(self) -> dict[str, str]:
        self.started = self.pid
        raise KeyboardInterrupt


def test_a_start_that_is_interrupted_leaves_no_gateway(state: StateDir) -> None:
    gateway = _Interrupted(state, PASSPHRASE, GatewayOptions())
    with pytest.raises(KeyboardInterrupt), gateway:
        pass
    assert gateway.started
    assert is_gone(gateway.started)


def test_a_gateway_ends_when_who_started_it_is_killed(state: StateDir) -> None:
    command = [sys.executable, "-c", STARTER, state.root, PASSPHRASE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert state.gateway_ready.exists()
        starter.kill()
    wait_until(lambda: is_gone(pid), "the gateway goes on alone")
    assert not state.gateway_ready.exists()


def test_the_passphrase_is_neither_in_the_gateways_environment_nor_in_its_arguments(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFAST_PASSPHRASE", PASSPHRASE.decode())
    with GatewayProcess(state, PASSPHRASE, GatewayOptions()) as gateway:
        process = Path(f"/proc/{gateway.pid}")
        assert PASSPHRASE not in process.joinpath("environ").read_bytes()
        assert PASSPHRASE not in process.joinpath("cmdline").read_bytes()


def test_a_gateway_whose_starter_is_gone_already_makes_nothing(
    tmp_path: Path,
) -> None:
    held, lost = os.pipe()
    os.close(lost)
    fresh = StateDir(tmp_path / "fresh")
    command = [sys.executable, "-m", "handfast", "gateway", "serve", "--dir", fresh.root]
    done = subprocess.run(
        [*command, "--lifeline-fd", str(held)],
        env={**os.environ, "HANDFAST_PASSPHRASE": PASSPHRASE.decode()},
        pass_fds=(held,),
        timeout=30,
        check=False,
    )
    os.close(held)
    assert done.returncode == 0
    assert not fresh.root.exists()


def test_what_the_gateway_says_when_it_cannot_start_is_passed_on(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(HandfastError, match="there are no CAs") as caught:
        GatewayProcess(StateDir(tmp_path), PASSPHRASE, GatewayOptions()).start()
    assert caught.value.exit_code == EnvironmentProblem.exit_code


def test_a_gateway_that_a_signal_ended_is_no_success(state: StateDir) -> None:
    class Killed(GatewayProcess):
        def _ready(self) -> dict[str, str]:
            os.kill(self.pid, signal.SIGKILL)
            return {}

    with pytest.raises(HandfastError) as caught:
        Killed(state, PASSPHRASE, GatewayOptions()).start()
    assert caught.value.exit_code == EnvironmentProblem.exit_code


def test_boards_are_told_the_address_at_which_they_reach_this_machine(state: StateDir) -> None:
    with GatewayProcess(state, PASSPHRASE, GatewayOptions(boards_at="10.0.2.2")) as gateway:
        trust = gateway.admin.trust()
        hosts = {urlsplit(trust[key]).hostname for key in BOARDS_URLS}
        own = {urlsplit(gateway.urls[name]).hostname for name in ("api", "enrol", "public")}
        port = urlsplit(trust["api_url"]).port
        served = ssl.get_server_certificate(("127.0.0.1", port or 0))
    assert (hosts, own) == ({"10.0.2.2"}, {"localhost"})
    names = x509.load_pem_x509_certificate(served.encode()).extensions
    addresses = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("10.0.2.2") in addresses.get_values_for_type(x509.IPAddress)
