"""One gateway, boards that are put back to where a case begins, and what they are put back to."""

from __future__ import annotations

import atexit
import enum
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.boards.definition import load_board
from handfast.boards.provision import Provisioned, provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.virtual import boards_at, virtual_board
from handfast.boards.virtual_board import VirtualBoard
from handfast.errors import HandfastError
from handfast.lab.demo.comeback import powered
from handfast.lab.demo.fleet import TELEMETRY_INTERVAL_S, DemoBoard
from handfast.lab.demo.scene import Scene
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities, load_certificates
from handfast.pki.rollover import begin_root_rollover, begin_server_rollover
from handfast.state import StateDir
from handfast.unix_socket import reachable_socket
from tests.power_cuts import gateway as keeping_gateway
from tests.power_cuts.board_main import MAIN, QUIET_AT
from tests.power_cuts.stepped import SteppedBoard

_PASSPHRASE = b"for tests only"
_SECTOR_BYTES = 4096
_PREPARE_S = 30.0
# Where memory is a folder: an erased file, and a registry's commit, need not reach a disk here.
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 1 << 30
# A token is good for an hour.
_FRESH_S = 1200.0
_ASK_S = 30.0


class Rollover(enum.Enum):
    """How far a gateway's change of trust anchors has come."""

    NOT_BEGUN = "not-begun"
    PUBLISHED = "published"  # another `server` CA, beside the one in use
    SWITCHED = "switched"
    ROOT_PUBLISHED = "root-published"  # another root, and another `server` CA below it
    ROOT_RETIRED = "root-retired"  # that `server` CA is in use, and the old root published no more

    @property
    def has_ended(self) -> bool:
        """Whether what was rolled over is published no more: boards are to let it go."""
        return self in (Rollover.SWITCHED, Rollover.ROOT_RETIRED)

    @property
    def is_of_the_root(self) -> bool:
        """Whether there is another root too."""
        return self in (Rollover.ROOT_PUBLISHED, Rollover.ROOT_RETIRED)


@dataclass(frozen=True, slots=True)
class Trusted:
    """DER of a gateway's trust anchors, in the order of their making: one of a kind, or two."""

    roots: tuple[bytes, ...]
    server_cas: tuple[bytes, ...]


@dataclass(frozen=True)
class State:
    """All that decides what a board does with its power, but for chance and the time of day.

    Attributes:
        flash: the raw image.
        gateway: SHA-256 (hex) of all that the gateway holds of the device.
    """

    flash: bytes
    gateway: str

    @cached_property
    def key(self) -> bytes:
        """The same for states of the same content."""
        return hashlib.sha256(self.flash).digest() + bytes.fromhex(self.gateway)


class _KeepingGateway(GatewayProcess):
    """A gateway that keeps and puts back what it holds of a device."""

    def _command(self) -> list[str]:
        interpreter, _m, _handfast, *arguments = super()._command()
        # Without the script's own folder in its path: that has a module of the name "gateway" too.
        return [interpreter, "-P", str(Path(keeping_gateway.__file__)), *arguments]


class Rig:
    """A gateway, and flash images that boards begin with; used by several threads at once.

    Attributes:
        scene: what the demo's way of judging a return works on.
        trusted: what its boards are to follow.
    """

    def __init__(
        self, scene: Scene, trusted: Trusted, owner: httpx.Client, micropython: str | None
    ) -> None:
        self.scene = scene
        self.trusted = trusted
        self._owner = owner
        self._micropython = micropython
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
            with DemoBoard(name, self._virtual(folder), folder / "serial.capture") as board:
                yield board
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def state(self, board: DemoBoard) -> State:
        """Return where a board stands, which is off or waits (:class:`SteppedBoard`)."""
        gateway = self._ask("POST", board.name)
        return State(board.board.flash_image.read_bytes(), gateway)

    def put_back(self, board: DemoBoard, state: State) -> None:
        """Have a board that is off, and the gateway, be as they were."""
        self._ask("PUT", f"{board.name}/{state.gateway}")
        board.board.flash_image.write_bytes(state.flash)
        board.capture.unlink(missing_ok=True)

    def _ask(self, method: str, path: str) -> str:
        answer = self._owner.request(method, f"/admin/v1/kept/{path}")
        if not answer.is_success:
            raise HandfastError(f"the gateway answers {answer.status_code} to {method} {path}")
        return str(answer.json()["sha256"])

    def _virtual(self, folder: Path) -> VirtualBoard:
        if load_board(self.scene.profile).kind == "simulated":
            return SteppedBoard(self.scene.profile, directory=folder, micropython=self._micropython)
        return virtual_board(self.scene.profile, directory=folder, name=folder.name)

    def plug_in(self, board: DemoBoard) -> None:
        """Give a board whose cable went away with its power a new one."""
        board.board.close()
        board.board = self._virtual(board.capture.parent)

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


class Prepared(Protocol):
    """What a board is laid out for; see sequences.CutSequence."""

    name: str
    rollover: Rollover

    def prepare(self, rig: Rig) -> AbstractContextManager[DemoBoard]:
        """Lay out a board, switched off, that is about to begin."""


class Place:
    """A board that was prepared once and is put back for each case; for one thread at a time.

    Attributes:
        rig: where it is.
        board: switched off.
        start: where each case begins.
    """

    def __init__(self, rig: Rig, board: DemoBoard) -> None:
        self.rig = rig
        self.board = board
        self.start = rig.state(board)
        self._made = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Whether a token that the board holds is good for long enough."""
        return time.monotonic() - self._made < _FRESH_S

    def put_back(self, state: State) -> None:
        """Have all be as it was, with the board switched off."""
        self.rig.put_back(self.board, state)


class Bench:
    """A rig for each state of a rollover, opened when it is first asked for; boards on them."""

    def __init__(self, folder: Path, board: str, stack: ExitStack) -> None:
        self._folder = folder
        self._board = board
        self._stack = stack
        self._rigs: dict[Rollover, Rig] = {}
        self._free: dict[str, list[tuple[Place, ExitStack]]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def place(self, sequence: Prepared) -> Iterator[Place]:
        """Give a board that was prepared for a sequence, put back to its start.

        One that something went wrong with is not given again.
        """
        with self._lock:
            free = self._free.setdefault(sequence.name, [])
            place, stack = free.pop() if free else (None, ExitStack())
        with ExitStack() as failed:
            failed.push(stack)
            if place is None or not place.is_fresh:
                stack.close()
                rig = self.rig(sequence.rollover)
                place = Place(rig, stack.enter_context(sequence.prepare(rig)))
            else:
                place.put_back(place.start)
            yield place
            failed.pop_all()
        with self._lock:
            self._free[sequence.name].append((place, stack))

    def close(self) -> None:
        """Take the boards away."""
        with self._lock:
            free, self._free = self._free, {}
        for _, stack in (one for places in free.values() for one in places):
            stack.close()

    def rig(self, rollover: Rollover = Rollover.NOT_BEGUN) -> Rig:
        """Return the rig whose gateway has come that far."""
        with self._lock:
            if rollover not in self._rigs:
                opened = _open_rig(self._folder / rollover.value, self._board, rollover)
                self._rigs[rollover] = self._stack.enter_context(opened)
            return self._rigs[rollover]


def profile_and_version(board: str) -> tuple[str, str | None]:
    """Split NAME=VERSION; None is the version of MicroPython that the profile names."""
    profile, _, version = board.partition("=")
    return profile, version or None


@contextmanager
def open_bench(board: str = "sim-pico-w") -> Iterator[Bench]:
    """Start gateways as they are needed, and stop them at the end.

    Args:
        board: the simulated board that lies on it, NAME or NAME=VERSION (of MicroPython).
    """
    with (
        tempfile.TemporaryDirectory(
            prefix="handfast-cuts-", dir=_scratch(), ignore_cleanup_errors=True
        ) as folder,
        ExitStack() as stack,
    ):
        bench = Bench(Path(folder), board, stack)
        try:
            yield bench
        finally:
            bench.close()


def _scratch() -> Path | None:
    """Return where temporary files are fastest."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES
    return _MEMORY if roomy else None


@contextmanager
def _open_rig(folder: Path, board: str, rollover: Rollover) -> Iterator[Rig]:
    """Give a gateway its CAs, start it, and stop it at the end.

    It refuses a superseded leaf at once: a board that goes back to one does not survive.
    """
    profile, micropython = profile_and_version(board)
    state, stage = StateDir(folder / "gateway"), folder / "boards"
    stage.mkdir(parents=True)
    state.create()
    shutil.copytree(_authorities().ca, state.ca)
    options = GatewayOptions(overlap_s=0, boards_at=boards_at(profile))
    with ExitStack() as stack:
        gateway = stack.enter_context(_KeepingGateway(state, _PASSPHRASE, options))
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
        address = stack.enter_context(reachable_socket(state.admin_socket))
        transport = httpx.HTTPTransport(uds=address)
        owner = httpx.Client(transport=transport, base_url="http://gateway", timeout=_ASK_S)
        stack.enter_context(owner)
        yield Rig(scene, _roll_over(scene, rollover), owner, micropython)


@cache
def _authorities() -> StateDir:
    """Return where CAs are that each gateway of this process gets a copy of."""
    folder = tempfile.TemporaryDirectory(prefix="handfast-ca-", dir=_scratch())
    atexit.register(folder.cleanup)
    state = StateDir(Path(folder.name))
    create_authorities(state, _PASSPHRASE)
    return state


def _roll_over(scene: Scene, rollover: Rollover) -> Trusted:
    """Bring the gateway's rollover as far as it is to be; returns what boards may hold by then."""
    held = load_certificates(scene.state)
    roots, server_cas = [held["root"]], [held["server"]]
    if rollover is not Rollover.NOT_BEGUN:
        # A device that never reports keeps the gateway from going on by itself.
        scene.admin.add_device("late")
        if rollover.is_of_the_root:
            roots.append(begin_root_rollover(scene.state, _PASSPHRASE))
        server_cas.append(begin_server_rollover(scene.state, _PASSPHRASE))
        scene.admin.reload_trust()
    if rollover.has_ended:
        scene.admin.switch_server_ca()
    if rollover is Rollover.ROOT_RETIRED:
        scene.admin.retire_root()
    return Trusted(_ders(roots), _ders(server_cas))


def _ders(certificates: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
