"""The demo from beginning to end; see :mod:`handfast.lab.demo.checks` for what it promises."""

from __future__ import annotations

import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.builder import build_simulator
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import EnvironmentProblem, UsageError
from handfast.lab.demo import checks
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.intruders import foreign_identity
from handfast.lab.demo.live import Screen
from handfast.lab.demo.report import Report
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.parallel import in_parallel
from handfast.pki.authorities import create_authorities, load_authority, load_certificates
from handfast.state import StateDir

_TRUST_DOMAIN = "demo.handfast.local"
_LEAST_RENEWALS = 2
_SHOW_EVERY_S = 0.25
# Beyond the lives that the renewals take: enrolment, slow machines, many boards on two cores.
_GRACE_S = 45.0
_GRACE_PER_BOARD_S = 1.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``handfast demo`` was asked for; times in seconds."""

    boards: int
    profile: str
    lifetime_s: int
    keep_dir: Path | None


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
        stage.watch()
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
    """Everything that is on stage; the methods are the acts, in their order."""

    def __init__(self, options: DemoOptions, screen: Screen, folder: Path) -> None:
        self.options = options
        self.screen = screen
        self.folder = folder
        self.report = Report()
        self.state = StateDir(folder / "gateway")
        self.passphrase = secrets.token_hex(16).encode()
        self.boards: list[DemoBoard] = []
        self.gateway = GatewayProcess(
            self.state, self.passphrase, GatewayOptions(device_lifetime_s=options.lifetime_s)
        )
        self.started = time.monotonic()

    def set_up(self, stack: ExitStack) -> None:
        """Build the simulator, make the CAs, start the gateway, lay out the boards."""
        options = self.options
        with self.screen.step(f"Simulated board {options.profile}") as tell:
            build_simulator(options.profile, progress=tell)
        with self.screen.step("Certificate authorities: root RSA-4096, four issuing CAs") as tell:
            create_authorities(
                self.state, self.passphrase, trust_domain=_TRUST_DOMAIN, progress=tell
            )
        with self.screen.step("Gateway"):
            stack.enter_context(self.gateway)
        for number in range(1, options.boards + 1):
            name = f"board-{number}"
            folder = self.folder / name
            simulated = SimulatedBoard(options.profile, directory=folder)
            board = DemoBoard(name, simulated, folder / "serial.capture")
            stack.callback(board.close)
            self.boards.append(board)

    def bring_up(self) -> None:
        """Switch every board on and provision it over its serial port."""
        text = f"{checks.how_many(self.boards)}: power on, provision over serial, start"
        with self.screen.step(text):
            in_parallel(lambda board: board.bring_up(self.gateway.admin), self.boards)

    def watch(self) -> None:
        """Show the boards live until each has renewed often enough and called since."""
        lives_s = self.options.lifetime_s * (_LEAST_RENEWALS + 1)
        deadline = time.monotonic() + lives_s + _GRACE_S + _GRACE_PER_BOARD_S * len(self.boards)
        with self.screen.boards("Boards call, renew, and go on calling") as show:
            while time.monotonic() < deadline:
                show([board.row() for board in self.boards])
                if all(_has_called_since_renewal(board) for board in self.boards):
                    return
                time.sleep(_SHOW_EVERY_S)

    def judge(self) -> None:
        """Check every promise; one that fails does not keep the next from being checked."""
        report, admin, boards = self.report, self.gateway.admin, self.boards
        with report.check("clock: each board's time is signed") as seen:
            seen.append(checks.clocks_were_signed(boards))
        with report.check("enrolment: each board with its own key") as seen:
            seen.append(checks.enrolled_with_own_keys(admin, boards))
        with report.check("renewal: a fresh key each time") as seen:
            seen.append(checks.renewed_with_fresh_keys(admin, boards, _LEAST_RENEWALS))
        with report.check("calls: none lost while renewing") as seen:
            seen.append(checks.no_call_was_lost(admin, boards))
        self._count()
        self._intruders()
        with report.check("revocation: refused within one request") as seen:
            said, took_ms = checks.revoked_within_one_request(admin, boards, self.state.gateway_log)
            seen.append(said)
            report.totals["revoke_median_ms"] = _median(took_ms, 1)
            report.totals["revoke_max_ms"] = round(max(took_ms), 1)
        with report.check("private keys: never left their boards") as seen:
            scratch = self.folder / "planted"
            scratch.mkdir()
            seen.append(checks.keys_stayed_on_their_boards(boards, self._files(), scratch))
        report.totals["seconds"] = round(time.monotonic() - self.started, 1)

    def _files(self) -> list[Path]:
        captures = [board.capture for board in self.boards]
        return [*sorted(self.state.root.rglob("*")), *captures]

    def _count(self) -> None:
        boards = self.boards
        calls, lost = checks.lost_calls(self.gateway.admin, boards)
        provisioned = [b.provisioned.seconds for b in boards if b.provisioned is not None]
        self.report.totals |= {
            "boards": len(boards),
            "provision_median_s": _median(provisioned, 2),
            "enrol_median_ms": _median(_enrol_ms(boards), 1),
            "enrolments": sum(len(board.enrolments()) for board in boards),
            "rotations": sum(len(board.renewals()) for board in boards),
            "calls": calls,
            "lost_calls": lost,
        }

    def _intruders(self) -> None:
        victim = self.boards[0]
        trust = load_certificates(self.state)
        genuine = load_authority(self.state, "device", self.passphrase)
        foreign = foreign_identity(genuine, device_id=victim.name, trust_domain=_TRUST_DOMAIN)
        attempts = (
            ("no certificate", lambda: None, "no-certificate"),
            ("another CA with the same names", lambda: foreign, "bad-signature"),
            (
                "the IDevID at the API",
                lambda: checks.idevid_of(victim, trust["device"]),
                "untrusted-issuer",
            ),
        )
        refused = 0
        for name, identity, reason in attempts:
            with self.report.check(f"intruder: {name}") as seen:
                seen.append(
                    checks.intruder_is_refused(
                        self.gateway.urls["api"],
                        self.state.gateway_log,
                        trust=trust["root"],
                        identity=identity(),
                        reason=reason,
                    )
                )
                refused += 1
        self.report.totals |= {"intruder_attempts": len(attempts), "intruders_refused": refused}


def _has_called_since_renewal(board: DemoBoard) -> bool:
    renewals = board.renewals()
    if len(renewals) < _LEAST_RENEWALS:
        return False
    return bool(board.console.events("telemetry", after=renewals[-1].number))


def _enrol_ms(boards: Sequence[DemoBoard]) -> list[float]:
    """Return, per board, milliseconds from its signed time to its first certificate."""
    took = []
    for board in boards:
        clock, enrolled = board.console.events("clock"), board.enrolments()
        if clock and enrolled:
            took.append((enrolled[0].line.at - clock[0].line.at).total_seconds() * 1000)
    return took


def _median(values: Sequence[float], digits: int) -> float | None:
    """Return the rounded median; ``None`` where nothing was measured (JSON knows no NaN)."""
    return round(statistics.median(values), digits) if values else None
