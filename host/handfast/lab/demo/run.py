"""The demo from beginning to end; see :mod:`handfast.lab.demo.checks` for what it promises."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from handfast.boards.definition import load_board
from handfast.boards.virtual import boards_at, build_virtual_board, pace
from handfast.errors import EnvironmentProblem, UsageError
from handfast.lab.demo import checks
from handfast.lab.demo.acts import ACTS
from handfast.lab.demo.calls import Calls, count_calls, no_call_was_lost
from handfast.lab.demo.expect import how_many
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.keysearch import KeyRing
from handfast.lab.demo.live import Screen
from handfast.lab.demo.performance import Performance
from handfast.lab.demo.report import Figure, Report, spread
from handfast.lab.demo.rotation import superseded_leaves, swap_the_gateways_leaf
from handfast.lab.demo.scene import Act, Scene
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.openssl import OpenSsl
from handfast.lab.parallel import in_parallel
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

_TRUST_DOMAIN = "demo.handfast.local"
_OVERLAP_S = 1  # a busy machine must find time to try a leaf between this and the leaf's end
# A board on two shared cores needs the better part of a second for each renewal.
_LIFETIME_PER_BOARD_S = 1
_LEAST_LIFETIME_S = 15
_SHOW_EVERY_S = 0.25
# In the totals whatever happens; null where nothing was measured.
_PROMISED = (
    *("boards", "enrolments", "rotations", "calls", "lost_calls"),
    *("attempts", "true_accepts", "true_rejects", "false_accepts", "false_rejects"),
    *("power_cuts", "power_cuts_survived"),
    *("provision_s", "enrol_ms", "handshake_ms", "revocation_ms"),
)
_LOOK_EVERY_S = 2.0
# Beyond the lives that the renewals take: enrolment, slow machines, many boards on two cores.
_GRACE_S = 90.0
_GRACE_PER_BOARD_S = 2.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is to be shown.

    Attributes:
        boards: how many rotate, and are revoked at the end.
        profile: which board, simulated or emulated.
        lifetime_s: of their certificates; chosen by their number if ``None``.
        keep_dir: a new folder to keep everything in.
        renewals: of each board, at least.
        acts: what is played meanwhile, by name.
    """

    boards: int
    profile: str = "sim-pico-w"
    lifetime_s: int | None = None
    keep_dir: Path | None = None
    renewals: int = 5
    acts: Mapping[str, Act] = field(default_factory=lambda: ACTS)


def run_demo(options: DemoOptions, screen: Screen) -> Report:
    """Run the demo and return what it found; everything that it started is gone by then.

    Raises:
        HandfastError: the demo could not be set up (no compiler, no disk, ...).
    """
    with (
        _ends_on_sigterm(),
        _folder(options.keep_dir) as folder,
        ExitStack() as stack,
        _cleans_up_undisturbed(),
    ):
        stage = _Stage(options, screen, folder)
        stage.set_up(stack)
        stage.bring_up()
        stage.perform(stack)
        stage.judge()
        return stage.report


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM and a terminal that hangs up unwind the stack as Ctrl-C does.

    All three signals are as before afterwards.
    """

    def end(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    signal.signal(signal.SIGTERM, end)
    if before[signal.SIGHUP] is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _cleans_up_undisturbed() -> Iterator[None]:
    """From the end of the block on, an impatient second Ctrl-C does not cut the cleaning short."""
    try:
        yield
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="handfast-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise UsageError(f"{keep} is there already; --keep takes a new folder") from None
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot make the folder {keep}: {error.strerror}; choose another with --keep"
        ) from error
    yield keep.absolute()


class _Stage:
    """Everything that is on stage; the methods are the demo's parts, in their order."""

    def __init__(self, options: DemoOptions, screen: Screen, folder: Path) -> None:
        self.options = options
        self.screen = screen
        self.report = Report(totals=dict.fromkeys(_PROMISED))
        self.boards: list[DemoBoard] = []
        self.scene = _scene(options, folder)
        self.keys = KeyRing()
        self._looked = float("-inf")
        self.started = time.monotonic()

    def set_up(self, stack: ExitStack) -> None:
        """Build the simulator, make the CAs, start the gateway, lay out the boards."""
        scene, profile = self.scene, self.options.profile
        OpenSsl.find()  # better missed now than in the middle of an act
        kind = load_board(profile).kind.capitalize()
        with self.screen.step(f"{kind} board {profile}") as tell:
            build_virtual_board(profile, progress=tell)
        with self.screen.step("Certificate authorities: root RSA-4096, four issuing CAs") as tell:
            create_authorities(
                scene.state, scene.passphrase, trust_domain=scene.trust_domain, progress=tell
            )
        with self.screen.step("Gateway"):
            stack.enter_context(scene.gateway)
        stack.callback(scene.close)
        self.boards = [scene.board(f"board-{n}") for n in range(1, self.options.boards + 1)]

    def bring_up(self) -> None:
        """Switch every board on and provision it over its serial port."""
        text = f"{how_many(self.boards)}: power on, provision over serial, start"
        with self.screen.step(text):
            in_parallel(lambda board: board.bring_up(self.scene.admin), self.boards)

    def perform(self, stack: ExitStack) -> None:
        """Play the acts, show the boards live; swap the gateway's leaf when all have renewed."""
        old_leaves = partial(superseded_leaves, boards=self.boards)
        performance = Performance(
            self.scene, {"superseded leaves": old_leaves, **self.options.acts}
        )
        stack.callback(performance.end)
        stack.callback(self.scene.close)  # first: it is what tells acts to end
        swapped = Report()
        deadline = time.monotonic() + self._longest_s()
        with self.screen.boards("Boards call, renew, and go on calling") as show:
            while time.monotonic() < deadline:
                self._look_for_keys()
                show([board.row() for board in self.boards], performance.rows())
                if not swapped.checks and all(board.renewals() for board in self.boards):
                    with swapped.check("rotation: the gateway's own leaf is swapped live") as seen:
                        seen.append(swap_the_gateways_leaf(self.scene))
                if performance.over and all(self._has_called_since(b) for b in self.boards):
                    break
                time.sleep(_SHOW_EVERY_S)
        self._judge_boards(swapped)
        for report in performance.reports():
            self.report.absorb(report)

    def _look_for_keys(self) -> None:
        """Take note of every key that is on a board now, now and then: flash is erased again."""
        if time.monotonic() - self._looked >= _LOOK_EVERY_S:
            self.keys.look(self.scene.folder.glob("*/flash.img"))
            self._looked = time.monotonic()

    def _longest_s(self) -> float:
        lives_s = self.scene.lifetime_s * (self.options.renewals + 1)
        grace_s = _GRACE_S + _GRACE_PER_BOARD_S * len(self.boards)
        # An emulated board's acts all want the processors that its boards want too.
        return lives_s + grace_s * self.scene.pace**3

    def _has_called_since(self, board: DemoBoard) -> bool:
        """Tell whether the board has renewed often enough, and called after the last time."""
        renewals = board.renewals()
        if len(renewals) < self.options.renewals:
            return False
        return bool(board.console.events("telemetry", after=renewals[-1].number))

    def _judge_boards(self, swapped: Report) -> None:
        """Check what the boards did while all of that went on."""
        report, admin, boards = self.report, self.scene.admin, self.boards
        with report.check("clock: each board's time is signed") as seen:
            seen.append(checks.clocks_were_signed(boards))
        with report.check("enrolment: each board with its own key") as seen:
            seen.append(checks.enrolled_with_own_keys(admin, boards))
        with report.check("rotation: a fresh key each time") as seen:
            seen.append(checks.renewed_with_fresh_keys(admin, boards, self.options.renewals))
        report.absorb(swapped)
        report.totals |= _figures(boards)
        with report.check("rotation: no call is lost") as seen:
            calls = count_calls(admin, boards)
            report.totals |= _call_figures(calls)
            seen.append(no_call_was_lost(calls, boards))

    def judge(self) -> None:
        """Revoke the boards, and look for their keys where these must not be."""
        report, scene, boards = self.report, self.scene, self.boards
        with report.check("revocation: each board is refused within one request") as seen:
            seen.append(checks.revoked_within_one_request(scene.admin, boards, scene.log))
        with report.check("private keys: never left their boards") as seen:
            scratch = scene.folder / "planted"
            scratch.mkdir()
            self.keys.look(scene.folder.glob("*/flash.img"))
            everything = sorted(scene.folder.rglob("*"))
            files = [path for path in everything if path.name != "flash.img"]
            seen.append(checks.keys_stayed_on_their_boards(self.keys.secrets(), files, scratch))
        report.totals["seconds"] = round(time.monotonic() - self.started, 1)


def _scene(options: DemoOptions, folder: Path) -> Scene:
    enough_s = max(_LEAST_LIFETIME_S, _LIFETIME_PER_BOARD_S * options.boards)
    enough_s *= pace(options.profile)
    lifetime_s = options.lifetime_s or enough_s
    state, passphrase = StateDir(folder / "gateway"), secrets.token_hex(16).encode()
    how = GatewayOptions(
        device_lifetime_s=lifetime_s,
        overlap_s=_OVERLAP_S,
        boards_at=boards_at(options.profile),
    )
    return Scene(
        profile=options.profile,
        lifetime_s=lifetime_s,
        overlap_s=_OVERLAP_S,
        trust_domain=_TRUST_DOMAIN,
        folder=folder,
        passphrase=passphrase,
        state=state,
        gateway=GatewayProcess(state, passphrase, how),
    )


def _figures(boards: Sequence[DemoBoard]) -> dict[str, Figure]:
    provisioned = [b.provisioned.seconds for b in boards if b.provisioned is not None]
    return {
        "boards": len(boards),
        "enrolments": sum(len(board.enrolments()) for board in boards),
        "rotations": sum(len(board.renewals()) for board in boards),
        "provision_s": spread(provisioned),
        "enrol_ms": spread(_enrol_ms(boards)),
    }


def _call_figures(calls: Calls) -> dict[str, Figure]:
    return {
        "calls": calls.acknowledged,
        "lost_calls": calls.lost,
        "handshake_ms": spread(calls.handshakes_ms),
    }


def _enrol_ms(boards: Sequence[DemoBoard]) -> list[float]:
    """Return, per board, milliseconds from its signed time to its first certificate."""
    took = []
    for board in boards:
        clock, enrolled = board.console.events("clock"), board.enrolments()
        if clock and enrolled:
            took.append((enrolled[0].line.at - clock[0].line.at).total_seconds() * 1000)
    return took
