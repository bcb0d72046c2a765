"""What one process of a run has set up: certificate authorities, gateways, boards."""

from __future__ import annotations

import secrets as random_secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.pytest_plugin.device_lines import NOTES, lines_run
from handfast.lab.pytest_plugin.gateway import Gateway
from handfast.lab.pytest_plugin.leases import lease_folder
from handfast.lab.pytest_plugin.pool import Pool
from handfast.lab.pytest_plugin.secret import Secrets
from handfast.lab.pytest_plugin.selection import Candidate
from handfast.lab.pytest_plugin.settings import Settings
from handfast.lab.pytest_plugin.sources import source_roots
from handfast.state import StateDir

if TYPE_CHECKING:
    from cryptography import x509

    from handfast.lab.pytest_plugin.flashing import Flasher
    from handfast.pki.authorities import Authority

_LOOPBACK = "127.0.0.1"
_HANDSHAKE_S = 10.0  # what the gateway gives a peer, times a board's pace
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
        boards: finds what may be leased.
        run: what names the run, the same in all its processes.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        secrets: Secrets,
        boards: Callable[[], Sequence[Candidate]],
        run: str = "",
    ) -> None:
        self.settings = settings
        self.secrets = secrets
        self._folder = folder
        self._find_boards = boards
        self._run = run
        self._boards = folder / "boards"
        self._stack = ExitStack()
        self._gateways = 0

    @cached_property
    def boards(self) -> Sequence[Candidate]:
        """What may be leased."""
        return self._find_boards()

    @cached_property
    def pool(self) -> Pool:
        """The boards."""
        pool = Pool(
            self.boards,
            lease_folder(),
            self._boards,
            self.settings.files,
            self.settings.parallel,
            traced=self.settings.coverage,
            flasher=self._flasher(),
            run=self._run,
        )
        self._stack.callback(pool.close)
        return pool

    def _flasher(self) -> Flasher | None:
        if not self.settings.flash:
            return None
        from handfast.lab.pytest_plugin.flashing import Flasher

        return Flasher(self.settings.firmware, lease_folder(), self._run)

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
        return _LOOPBACK if all(board.profile for board in self.boards) else _own_address()

    def _where(self) -> dict[str, Any]:
        host = self.host
        if emulated := self._boards_at():
            handshake_s = _HANDSHAKE_S * self._pace()
            return {
                "host": host, "names": (host,), "boards_at": emulated, "handshake_s": handshake_s
            }  # fmt: skip
        names = (host,) if host == _LOOPBACK else (host, _LOOPBACK)
        return {"host": host, "names": names}

    def _boards_at(self) -> str:
        """Return this machine's address in the network of the run's emulated boards; "" for none.

        One gateway serves all boards of a run, so they are of one kind.
        """
        from handfast.boards.virtual import boards_at

        return next((boards_at(board.profile) for board in self.boards if board.profile), "")

    def _pace(self) -> int:
        from handfast.boards.virtual import pace

        return max((pace(board.profile) for board in self.boards if board.profile), default=1)

    def close(self) -> None:
        """Take away all that was set up; what boards have run is handed to coverage.py."""
        self._stack.close()
        if self.settings.coverage and (notes := list(self._boards.glob(f"*/{NOTES}"))):
            from handfast.lab.pytest_plugin.device_coverage import hand_over

            hand_over(lines_run(notes, source_roots(self.settings.files), self.settings.root))


def _own_address() -> str:
    """Return the address that packets to elsewhere leave from; loopback where there is no way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
        except OSError:
            return _LOOPBACK
        return str(probe.getsockname()[0])
