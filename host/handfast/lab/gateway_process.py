"""A gateway in a process of its own, as users run it, for demos and tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from handfast.admin_client import AdminClient
from handfast.errors import EnvironmentProblem, HandfastError
from handfast.state import StateDir

_START_S = 30.0
_STOP_S = 10.0
_POLL_S = 0.02

# What of its trust a board finds the gateway by (config.json).
BOARDS_URLS = ("api_url", "enrol_url", "tsa_url")


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What a gateway is started with: ports are ephemeral unless given, and off where None.

    ``boards_at`` is this machine's address as boards reach it, where the first of ``names`` is none
    of theirs: it joins the names, and boards are told of it.
    """

    host: str = "127.0.0.1"
    device_lifetime_s: int = 86_400
    overlap_s: int = 300
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    boards_at: str = ""
    api_port: int = 0
    enrol_port: int = 0
    public_port: int = 0
    admin_port: int | None = None
    resume_port: int | None = None
    handshake_s: float | None = None


class _BoardsClient(AdminClient):
    """Gives out the gateway's URLs as boards reach them."""

    def __init__(self, state: StateDir, boards_at: str) -> None:
        super().__init__(state)
        self._boards_at = boards_at

    def trust(self) -> dict[str, Any]:
        trust = super().trust()
        urls = {key: as_boards_reach(trust[key], self._boards_at) for key in BOARDS_URLS}
        return {**trust, **urls}


def as_boards_reach(url: str, boards_at: str) -> str:
    """Return a URL of this machine with another host in it; as it is for ""."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{boards_at}:{parts.port}").geturl() if boards_at else url


class GatewayProcess:
    """Runs ``handfast gateway serve`` and stops it at the end of a ``with`` block.

    It ends with this process too, however that ends: it holds one end of a pipe, we the other.

    Args:
        state: the state folder, with its CAs already made.
        passphrase: of the CA keys, one line; handed over in a pipe, since a process shows its
            environment and arguments for as long as it lives.
        options: lifetimes, names and ports.
    """

    def __init__(self, state: StateDir, passphrase: bytes, options: GatewayOptions) -> None:
        self._state = state
        self._passphrase = passphrase
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._output = state.root / "gateway-output.txt"
        self.urls: dict[str, str] = {}

    def start(self) -> None:
        """Start it and wait until every listener listens.

        Raises:
            HandfastError: what the gateway said when it could not start, with its exit code.
        """
        try:
            self._process = self._spawn()
            self.urls = self._wait_until_ready(self._process)
        except BaseException:  # a Ctrl-C as well: nobody else would stop it
            self.stop()
            raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        held, self._lifeline = os.pipe()
        secret = self._passphrase_pipe()
        try:
            with self._output.open("wb") as output:
                return subprocess.Popen(
                    [
                        *self._command(),
                        *("--lifeline-fd", str(held)),
                        *("--passphrase-file", f"/dev/fd/{secret}"),
                    ],
                    env={k: v for k, v in os.environ.items() if k != "HANDFAST_PASSPHRASE"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(held, secret),
                    # Ctrl-C in the terminal is ours to handle; the gateway is stopped in order.
                    start_new_session=True,
                )
        finally:
            os.close(held)
            os.close(secret)

    def _passphrase_pipe(self) -> int:
        """Return the end to read of a pipe that holds the passphrase, whole."""
        secret, end = os.pipe()
        with os.fdopen(end, "wb") as file:
            file.write(self._passphrase + b"\n")
        return secret

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> dict[str, str]:
        deadline = time.monotonic() + _START_S
        while not (ready := self._ready()):
            if process.poll() is not None:
                raise self._start_failure(process.returncode)
            if time.monotonic() > deadline:
                raise EnvironmentProblem(f"the gateway did not start within {_START_S:.0f} s")
            time.sleep(_POLL_S)
        return ready

    def _command(self) -> list[str]:
        options = self._options
        command = [sys.executable, "-m", "handfast", "gateway", "serve"]
        command += ["--dir", str(self._state.root), "--host", self._options.host]
        for name in (*options.names, *((options.boards_at,) if options.boards_at else ())):
            command += ["--name", name]
        command += ["--api-port", str(options.api_port), "--enrol-port", str(options.enrol_port)]
        command += ["--public-port", str(options.public_port)]
        if options.admin_port is not None:
            command += ["--admin-port", str(options.admin_port)]
        if options.resume_port is not None:
            command += ["--resume-port", str(options.resume_port)]
        if options.handshake_s is not None:
            command += ["--handshake-s", str(options.handshake_s)]
        command += ["--overlap-s", str(options.overlap_s)]
        command += ["--device-lifetime-s", str(options.device_lifetime_s)]
        return command

    def _ready(self) -> dict[str, str]:
        try:
            ready = json.loads(self._state.gateway_ready.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        if self._process is None or ready.get("pid") != self._process.pid:
            return {}
        return {name: url for name, url in ready.items() if name != "pid"}

    def _start_failure(self, exit_code: int) -> HandfastError:
        lines = [line for line in self._output.read_text(errors="replace").splitlines() if line]
        said = lines[-1].removeprefix("handfast: ") if lines else "it said nothing"
        error = HandfastError(f"the gateway did not start: {said}")
        # One that a signal ended has no exit code of its own.
        error.exit_code = exit_code if exit_code > 0 else EnvironmentProblem.exit_code
        return error

    @property
    def admin(self) -> AdminClient:
        """A client of the admin socket; the URLs in its ``trust`` are those of boards."""
        return _BoardsClient(self._state, self.boards_at)

    @property
    def boards_at(self) -> str:
        """This machine's address as boards reach it; "" where it is that in the URLs."""
        return self._options.boards_at

    @property
    def pid(self) -> int:
        """The process id of the running gateway."""
        if self._process is None:
            raise EnvironmentProblem("the gateway is not running")
        return self._process.pid

    def stop(self) -> None:
        """Stop it: SIGTERM, and SIGKILL if it has not ended in time."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._let_go()

    def kill(self) -> None:
        """End it as a power failure would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._let_go()

    def _let_go(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def __enter__(self) -> GatewayProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
