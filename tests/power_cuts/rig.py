"""One gateway, and as many boards as there are cases, each a device of its own."""

from __future__ import annotations

import enum
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from handfast.boards.provision import Provisioned, provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.lab.demo.comeback import powered
from handfast.lab.demo.fleet import TELEMETRY_INTERVAL_S, DemoBoard
from handfast.lab.demo.scene import Scene
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities, load_certificates
from handfast.pki.rollover import begin_server_rollover
from handfast.state import StateDir
from tests.power_cuts.board_main import MAIN, QUIET_AT

_PASSPHRASE = b"for tests only"
_SECTOR_BYTES = 4096
_PREPARE_S = 30.0


class Rollover(enum.Enum):
    """How far a gateway's change to another ``server`` CA has come."""

    NOT_BEGUN = "not-begun"
    PUBLISHED = "published"
    SWITCHED = "switched"


class Rig:
    """A gateway, and flash images that boards begin with; used by several threads at once.

    Attributes:
        scene: what the demo's way of judging a return works on.
        server_cas: DER, in the order of their making; one, or two once a rollover has begun.
    """

    def __init__(self, scene: Scene, server_cas: tuple[bytes, ...]) -> None:
        self.scene = scene
        self.server_cas = server_cas
        self._templates: dict[int, Path] = {}
        self._lock = threading.Lock()
        self._number = 0

    def _next(self, kind: str) -> str:
        with self._lock:
            self._number += 1
            return f"{kind}-{self._number}"

    @contextmanager
    def board(self, kind: str, image: Path | None = None) -> Iterator[DemoBoard]:
        """Lay out a new board, switched off; everything of it is gone at the end."""
        name = self._next(kind)
        folder = self.scene.folder / name
        folder.mkdir()
        if image is not None:
            shutil.copy(image, folder / "flash.img")
        try:
            with DemoBoard(name, self._simulated(folder), folder / "serial.capture") as board:
                yield board
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _simulated(self, folder: Path) -> SimulatedBoard:
        return SimulatedBoard(self.scene.profile, directory=folder, name=folder.name)

    def plug_in(self, board: DemoBoard) -> None:
        """Give a board whose cable went away with its power a new one."""
        board.board.close()
        board.board = self._simulated(board.capture.parent)

    def provision(self, board: DemoBoard, *, token: bool = True) -> Provisioned:
        """Provision a board that is on, as `handfast provision` does; it does not start."""
        return provision(
            board.board.serial_url,
            gateway=self.scene.admin,
            device_id=board.name,
            telemetry_interval_s=TELEMETRY_INTERVAL_S,
            token=token,
            start=False,
            capture=board.capture,
        )

    @contextmanager
    def repl(self, board: DemoBoard) -> Iterator[SerialLink]:
        """Switch a board on whose application is not to start; off again at the end."""
        with (
            powered(board, rtc=QUIET_AT),
            SerialLink.open(board.board.serial_url, capture=board.capture) as link,
        ):
            yield link

    @contextmanager
    def provisioned(
        self, kind: str, *, token: bool, code: str = "", sectors: int = 0
    ) -> Iterator[DemoBoard]:
        """Lay out a board that has all it needs, and ran ``code`` last; it has not enrolled.

        Args:
            kind: what its name begins with.
            token: whether it was given one; it has an IDevID all the same.
            code: run at the end.
            sectors: of its flash; the profile's own by default.
        """
        with self.board(kind, self._template(sectors)) as board:
            self._prepare(board, token=token, code=code)
            yield board

    def _template(self, sectors: int) -> Path:
        """Return the image of a board with the library on it, made once."""
        with self._lock:
            path = self._templates.get(sectors)
        if path is None:
            path = self.scene.folder / f"{self._next('template')}.img"
            with self.board("template") as board:
                if sectors:
                    board.board.flash_image.write_bytes(b"\xff" * _SECTOR_BYTES * sectors)
                self._prepare(board, token=False, code="")
                shutil.copy(board.board.flash_image, path)
            with self._lock:
                self._templates[sectors] = path
        return path

    def _prepare(self, board: DemoBoard, *, token: bool, code: str) -> None:
        with powered(board, rtc=QUIET_AT):
            self.provision(board, token=token)
            with SerialLink.open(board.board.serial_url, capture=board.capture) as link:
                link.exec("import os\nos.rename('/main.py', '/app.py')\n" + code, _PREPARE_S)
                link.push({"/main.py": MAIN.encode()})


class Bench:
    """A rig for each state of a rollover, opened when it is first asked for."""

    def __init__(self, folder: Path, profile: str, stack: ExitStack) -> None:
        self._folder = folder
        self._profile = profile
        self._stack = stack
        self._rigs: dict[Rollover, Rig] = {}
        self._lock = threading.Lock()

    def rig(self, rollover: Rollover = Rollover.NOT_BEGUN) -> Rig:
        """Return the rig whose gateway has come that far."""
        with self._lock:
            if rollover not in self._rigs:
                opened = _open_rig(self._folder / rollover.value, self._profile, rollover)
                self._rigs[rollover] = self._stack.enter_context(opened)
            return self._rigs[rollover]


@contextmanager
def open_bench(folder: Path, profile: str = "sim-pico-w") -> Iterator[Bench]:
    """Start gateways as they are needed, and stop them at the end."""
    with ExitStack() as stack:
        yield Bench(folder, profile, stack)


@contextmanager
def _open_rig(folder: Path, profile: str, rollover: Rollover) -> Iterator[Rig]:
    """Make the CAs, start a gateway, and stop it at the end.

    It refuses a superseded leaf at once: a board that goes back to one does not survive.
    """
    state, stage = StateDir(folder / "gateway"), folder / "boards"
    stage.mkdir(parents=True)
    create_authorities(state, _PASSPHRASE)
    options = GatewayOptions(overlap_s=0)
    with ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(state, _PASSPHRASE, options))
        scene = Scene(
            profile=profile,
            lifetime_s=options.device_lifetime_s,
            overlap_s=options.overlap_s,
            trust_domain="",
            folder=stage,
            passphrase=_PASSPHRASE,
            state=state,
            gateway=gateway,
        )
        stack.callback(scene.close)
        yield Rig(scene, _server_cas(scene, rollover))


def _server_cas(scene: Scene, rollover: Rollover) -> tuple[bytes, ...]:
    """Bring the gateway's rollover as far as it is to be; returns its ``server`` CAs (DER)."""
    made = [load_certificates(scene.state)["server"]]
    if rollover is not Rollover.NOT_BEGUN:
        # A device that never reports keeps the gateway from going on by itself.
        scene.admin.add_device("late")
        made.append(begin_server_rollover(scene.state, _PASSPHRASE))
        scene.admin.reload_trust()
    if rollover is Rollover.SWITCHED:
        scene.admin.switch_server_ca()
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in made)
