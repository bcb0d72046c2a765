"""What one process of a run has set up: certificate authorities, gateways, boards."""

from __future__ import annotations

import secrets as random_secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.pytest_plugin.gateway import Gateway
from handfast.lab.pytest_plugin.leases import lease_folder
from handfast.lab.pytest_plugin.pool import Pool
from handfast.lab.pytest_plugin.secret import Secrets
from handfast.lab.pytest_plugin.selection import candidates
from handfast.lab.pytest_plugin.settings import Settings
from handfast.state import StateDir

if TYPE_CHECKING:
    from cryptography import x509

    from handfast.pki.authorities import Authority

_LOOPBACK = "127.0.0.1"
_SOMEWHERE = ("192.0.2.1", 9)  # RFC 5737: nothing is sent there, only the way is looked up


class Pki:
    """The certificate authorities of a run; the passphrase of their keys is in ``passphrase``."""

    def __init__(self, state: StateDir, passphrase: bytes) -> None:
        self.state = state
        self.passphrase = passphrase

    def certificates(self) -> dict[str, x509.Certificate]:
        """Return the CAs' certificates by name, such as ``root`` and ``device``."""
        from handfast.pki.authorities import load_certificates

        return load_certificates(self.state)

    def authority(self, name: str) -> Authority:
        """Return a CA with its key."""
        from handfast.pki.authorities import load_authority

        return load_authority(self.state, name, self.passphrase)


class Lab:
    """Sets up what is asked for, once, and takes it away at the end.

    Args:
        settings: of the run.
        folder: where everything is kept.
        secrets: what no report may show.
    """

    def __init__(self, settings: Settings, folder: Path, secrets: Secrets) -> None:
        self.settings = settings
        self.secrets = secrets
        self._folder = folder
        self._stack = ExitStack()
        self._gateways = 0

    @cached_property
    def pool(self) -> Pool:
        """The boards."""
        boards = candidates(self.settings.board, self.settings.bench)
        pool = Pool(
            boards,
            lease_folder(),
            self._folder / "boards",
            self.settings.files,
            self.settings.parallel,
        )
        self._stack.callback(pool.close)
        return pool

    @cached_property
    def pki(self) -> Pki:
        """The certificate authorities, made when first asked for."""
        from handfast.pki.authorities import create_authorities

        passphrase = random_secrets.token_urlsafe(24)
        self.secrets.add(passphrase)
        state = StateDir(self._folder / "pki")
        state.create()
        create_authorities(state, passphrase.encode())
        return Pki(state, passphrase.encode())

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway that most tests share."""
        return self._stack.enter_context(self.own_gateway({}))

    @contextmanager
    def own_gateway(self, options: Mapping[str, Any]) -> Iterator[Gateway]:
        """Run a gateway of a test's own, with a registry of its own, under the same CAs."""
        self._gateways += 1
        state = StateDir(self._folder / f"gateway-{self._gateways}")
        state.create()
        shutil.copytree(self.pki.state.ca, state.ca)
        chosen = GatewayOptions(**{**self._where(), **options})
        with GatewayProcess(state, self.pki.passphrase, chosen) as process:
            yield Gateway(process, state, self.secrets)

    @property
    def host(self) -> str:
        """This machine's address as the run's boards reach it."""
        if self.settings.host:
            return self.settings.host
        boards = candidates(self.settings.board, self.settings.bench)
        return _LOOPBACK if all(board.profile for board in boards) else _own_address()

    def _where(self) -> dict[str, Any]:
        host = self.host
        names = (host,) if host == _LOOPBACK else (host, _LOOPBACK)
        return {"host": host, "names": names}

    def close(self) -> None:
        """Take away all that was set up."""
        self._stack.close()


def _own_address() -> str:
    """Return the address that packets to elsewhere leave from; loopback where there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
        except OSError:
            return _LOOPBACK
        return str(probe.getsockname()[0])
