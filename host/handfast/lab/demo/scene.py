"""What every act of the demo plays in: one gateway, its CAs, and boards of the act's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography import x509

from handfast.admin_client import AdminClient
from handfast.boards.virtual import pace, virtual_board
from handfast.boards.virtual_board import Entropy
from handfast.errors import HandfastError
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.report import Report
from handfast.lab.gateway_process import GatewayProcess
from handfast.lab.relay import Relay
from handfast.pki.authorities import Authority, load_authority, load_certificates
from handfast.state import StateDir

Resource = TypeVar("Resource")
Tell = Callable[[str], None]


class SceneOver(HandfastError):
    """The demo ends while the act still plays: nothing new may be started."""


class Act(Protocol):
    """One part of the demo; several play at once, each in a thread of its own.

    It records its checks and totals in ``report``, its own; ``tell`` shows how far it is.
    """

    def __call__(self, scene: Scene, report: Report, tell: Tell) -> None:
        """Play the act; what goes wrong belongs inside ``report.check``."""


@dataclass(slots=True)
class Scene:
    """The stage of one demo.

    Attributes:
        profile: which board is played, such as ``sim-pico-w`` or ``qemu-mps2``.
        lifetime_s: life of an operational certificate.
        overlap_s: how long a superseded one stays good after the switch.
        trust_domain: of the CAs.
        folder: everything that the demo writes is below it.
        passphrase: of the CAs' keys.
        gateway: running, with ``urls`` and an ``admin`` client.
    """

    profile: str
    lifetime_s: int
    overlap_s: int
    trust_domain: str
    folder: Path
    passphrase: bytes
    state: StateDir
    gateway: GatewayProcess
    _resources: ExitStack = field(default_factory=ExitStack)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def admin(self) -> AdminClient:
        """The gateway's admin interface."""
        return self.gateway.admin

    @property
    def pace(self) -> int:
        """How many times as long as a simulated board the demo's boards may take."""
        return pace(self.profile)

    @property
    def log(self) -> Path:
        """The gateway's log: one JSON document a line."""
        return self.state.gateway_log

    def certificates(self) -> dict[str, x509.Certificate]:
        """Return the CAs' certificates by name."""
        return load_certificates(self.state)

    def authority(self, name: str) -> Authority:
        """Return a CA with its key: what an attacker's certificates are compared to."""
        return load_authority(self.state, name, self.passphrase)

    def board(
        self,
        name: str,
        *,
        flash: Path | None = None,
        entropy: Entropy = "host",
        profile: str | None = None,
    ) -> DemoBoard:
        """Lay out a board of the act's own, switched off; it is gone when the demo ends.

        Args:
            name: its device_id, and the name of its folder.
            flash: an image to start from, copied; a blank chip by default.
            entropy: what its random source gives.
            profile: which board it is; the demo's by default.
        """
        folder = self.folder / name
        folder.mkdir()
        if flash is not None:
            (folder / "flash.img").write_bytes(flash.read_bytes())
        board = virtual_board(profile or self.profile, directory=folder, name=name, entropy=entropy)
        made = DemoBoard(name, board, folder / "serial.capture")
        self.keep(made)
        return made

    def relay(self, setting: str) -> Relay:
        """Put a relay before one of the gateway's listeners, gone when the demo ends.

        Args:
            setting: what of config.json its ``url`` is for, such as ``api_url``.
        """
        target = AdminClient(self.state).trust()[setting]
        return self.keep(Relay(target, named=self.gateway.boards_at))

    def keep(self, resource: AbstractContextManager[Resource]) -> Resource:
        """Enter something that must be gone when the demo ends, however it ends.

        Raises:
            SceneOver: the demo ends already; the resource is closed again.
        """
        with self._lock:
            if not self._over.is_set():
                return self._resources.enter_context(resource)
        with resource:
            raise SceneOver("the demo is over")

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the demo's end.

        Raises:
            SceneOver: the demo ends meanwhile.
        """
        if self._over.wait(seconds):
            raise SceneOver("the demo is over")

    def close(self) -> None:
        """Take everything away that acts have kept; an act that plays on finds nothing to use."""
        with self._lock:
            self._over.set()
        self._resources.close()
