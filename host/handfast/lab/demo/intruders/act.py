"""The act about intruders: waves of attempts, each planned before it is made and judged after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from random import Random

from cryptography.hazmat.primitives.serialization import Encoding

from handfast.admin_client import AdminClient
from handfast.lab.demo.expect import all_telemetry, expect
from handfast.lab.demo.intruders.attackers import Attacker, AttackerProcess, attack
from handfast.lab.demo.intruders.board import BoardAttacker
from handfast.lab.demo.intruders.client import Client
from handfast.lab.demo.intruders.devices import Device, Enroller
from handfast.lab.demo.intruders.forge import Forger
from handfast.lab.demo.intruders.judge import Finding, Outcome, judge
from handfast.lab.demo.intruders.kinds import KINDS
from handfast.lab.demo.intruders.log import GatewayLog
from handfast.lab.demo.intruders.plan import make_plan, next_numbers
from handfast.lab.demo.intruders.requests import Material
from handfast.lab.demo.intruders.trace import Complaint, stored_trace, trace_complaints
from handfast.lab.demo.report import Figure, Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.parallel import in_parallel

_LEAST_ATTEMPTS = 1000
_LEAST_OF_A_KIND = 20
_WANTED_OF_A_KIND = 21  # three waves of seven
_MOST_IN_A_WAVE = 7
_FEWEST_IN_A_WAVE = 2
_WITHIN_S = 120.0
_ATTACKERS_BOARD = "sim-pico-w"
_PROCESSES = 3
# Intruders have addresses of their own: that is how the log's lines about them are told from
# those about boards, and they do not use up the boards' connections (the cap is by address).
_NETWORK = "127.77.0."
_SPARE_TOKENS = 5  # see kinds._SUBJECT_TOKENS
_AFTER_OVERLAP_S = 0.2
_NOWHERE = {("api", ""), ("enrol", "")}  # an attempt that had no address of its own
_SEED = 20  # the same mixture each time


def intruders(scene: Scene, report: Report, tell: Tell) -> None:
    """Play the act: one check for each promise, and one that all of them were put to the test."""
    report.totals |= dict.fromkeys(_TOTALS)
    findings: list[Finding] = []
    late: list[Finding] = []
    devices: list[Device] = []
    with (
        report.check("intruders: at least 1,000 attempts, good calls among them") as seen,
        ExitStack() as stack,
    ):
        waves = _Waves(scene, stack)
        devices = waves.devices
        for wave in until_judged(waves.make):
            findings += [finding for finding in wave if finding.counts]
            late += [finding for finding in wave if not finding.counts]
            tell(f"{len(findings)} attempts")
        seen.append(_enough(findings, len(late)))
    if not findings:
        return
    for promise in dict.fromkeys(kind.promise for kind in KINDS):
        with report.check(f"intruders: {promise}") as seen:
            seen.append(_kept(promise, findings))
    with report.check("intruders: a refused attempt leaves no trace") as seen:
        seen.append(_nothing_left(scene.admin, devices, findings + late))
    report.totals |= _totals(findings)


def until_judged(
    make_wave: Callable[[Mapping[str, int]], list[Finding]],
    *,
    within_s: float = _WITHIN_S,
) -> Iterator[list[Finding]]:
    """Yield what came of each wave, until every kind was tried as often as wanted.

    Attempts that a busy machine made too late count for nothing, and are made again in a smaller
    wave.

    Args:
        make_wave: makes so many attempts of each kind, by title.
        within_s: no wave begins after that.

    Raises:
        CheckFailed: it was not enough time.
    """
    judged: Counter[str] = Counter()
    most = _MOST_IN_A_WAVE
    deadline = time.monotonic() + within_s
    while numbers := next_numbers(judged, wanted=_WANTED_OF_A_KIND, most=most):
        expect(time.monotonic() < deadline, f"not done within {within_s:.0f} s")
        findings = make_wave(numbers)
        judged.update(finding.attempt.kind for finding in findings if finding.counts)
        if not all(finding.counts for finding in findings):
            most = max(_FEWEST_IN_A_WAVE, most // 2)
        yield findings


class _Waves:
    """Wave after wave against one gateway; what it starts ends with ``stack`` and the scene."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self._scene = scene
        self._folder = scene.folder / "intruders"
        self._folder.mkdir()
        self._trust = scene.certificates()["root"].public_bytes(Encoding.PEM).decode()
        self._log = GatewayLog(scene.log, _NETWORK)
        self._processes = [self._process(stack, n) for n in range(1, _PROCESSES + 1)]
        self._board = self._switched_on_board(stack)
        self._enroller = Enroller(scene.admin, self._client(), scene.trust_domain)
        issuing = {name: scene.authority(name) for name in ("device", "server")}
        self._forger = Forger(issuing, scene.trust_domain)
        self._random = Random(_SEED)  # noqa: S311 - it shuffles
        self._number = 0
        self._wave = 0
        self.devices: list[Device] = []  # of the waves that were judged

    def _process(self, stack: ExitStack, number: int) -> Attacker:
        source = f"{_NETWORK}{number}"
        urls = self._scene.gateway.urls
        process = self._scene.keep(
            AttackerProcess(urls, self._trust, source=source, folder=self._folder)
        )
        stack.callback(process.close)
        return process

    def _switched_on_board(self, stack: ExitStack) -> Attacker:
        # The gateway's log tells attempts apart by address and port: a board in a network of its
        # own could not choose them.
        board = self._scene.board("intruders-board", profile=_ATTACKERS_BOARD)
        stack.callback(board.close)
        board.board.power_on()
        source = f"{_NETWORK}{_PROCESSES + 1}"
        attacker = BoardAttacker(board, self._scene.gateway.urls, source=source)
        stack.callback(attacker.close)
        return self._scene.keep(closing(attacker))

    def _client(self) -> Client:
        urls = self._scene.gateway.urls
        return Client(urls, self._trust, source="127.0.0.1", scratch=self._folder)

    def make(self, numbers: Mapping[str, int]) -> list[Finding]:
        """Make a wave: enrol devices, plan so many attempts of each kind, make them, judge them."""
        self._wave += 1
        material = self._new_material()
        plan = make_plan(numbers, material, self._random, first=self._number)
        self._number += len(plan.attempts)
        declared = "\n".join(attempt.declaration() for attempt in plan.attempts)
        (self._folder / f"plan-{self._wave}.jsonl").write_text(declared + "\n")
        answers = attack(self._processes, self._board, plan.before)
        self._scene.admin.revoke(material.revoked.device_id)
        self._scene.admin.suspend(material.suspended.device_id)
        answers |= attack(self._processes, self._board, plan.after)
        made = {(a.listener, answers[a.number].peer) for a in plan.attempts} - _NOWHERE
        lines = self._log.wait_for(made, self._scene.pause)
        self.devices += material.devices
        return judge(plan.attempts, answers, lines)

    def _new_material(self) -> Material:
        """Enrol a wave's devices and wait until the overlap of one of them is over."""
        overdue = self._enrol("overdue")
        roles = ("healthy", "neighbour", "revoked", "suspended")
        devices = dict(zip(roles, in_parallel(self._enrol, roles), strict=True))
        healthy = devices["healthy"]
        forged = self._forger.forge(healthy.device_id, healthy.leaf)
        over = overdue.switched_at + self._scene.overlap_s + _AFTER_OVERLAP_S
        self._scene.pause(max(0.0, over - time.time()))
        return Material(**devices, overdue=overdue, forged=forged)

    def _enrol(self, role: str) -> Device:
        return self._enroller.enrol(f"intruders-{role}-{self._wave}", tokens=_SPARE_TOKENS)


# What is said of it


def _enough(findings: Sequence[Finding], late: int) -> str:
    unknown = [finding for finding in findings if finding.outcome is Outcome.UNKNOWN]
    expect(not unknown, f"{len(unknown)} cannot be judged; {unknown[0] if unknown else ''}")
    made = len(findings)
    expect(made >= _LEAST_ATTEMPTS, f"{made} attempts were made, not {_LEAST_ATTEMPTS}")
    kinds = len({finding.attempt.kind for finding in findings})
    again = f"; {late} more came too late and were made again" if late else ""
    return f"{made} connections by {_PROCESSES} processes and a board, {kinds} kinds{again}"


def _kept(promise: str, findings: Sequence[Finding]) -> str:
    """Return what came of a promise's attempts.

    Raises:
        CheckFailed: one ended otherwise than expected, or a kind was not tried often enough.
    """
    ours = [finding for finding in findings if finding.attempt.kind.startswith(f"{promise}: ")]
    wrong = [finding for finding in ours if finding.complaint]
    expect(not wrong, f"{len(wrong)} of {len(ours)} went wrong; {wrong[0] if wrong else ''}")
    tried = Counter(finding.attempt.kind for finding in ours)
    for kind in KINDS:
        often = tried[kind.title]
        if kind.promise == promise:
            expect(often >= _LEAST_OF_A_KIND, f"{kind.title}: tried {often} times only")
    reasons = Counter(finding.attempt.expected.reason or "accepted" for finding in ours)
    told = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common())
    return f"{len(ours)} attempts: {told}"


def _nothing_left(
    gateway: AdminClient, devices: Sequence[Device], findings: Sequence[Finding]
) -> str:
    """Hold what is stored of the devices against what the good calls should have left.

    Raises:
        CheckFailed: something is stored that should not be, or is not and should be.
    """
    complaints: list[Complaint] = []
    number = 0
    for device in devices:
        name = device.device_id
        stored = stored_trace(gateway.device(name), all_telemetry(gateway, name))
        complaints += trace_complaints(device, findings, stored)
        number += stored.total()
    told = {(complaint.what, complaint.sender): str(complaint) for complaint in complaints}
    expect(not complaints, f"{len(complaints)} are not as planned; {'; '.join(told.values())}")
    return f"{number} rows, certificates and tokens of {len(devices)} devices are as planned"


# In the report whatever happens; attempts are the sum of the others.
_OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.TOO_LATE)
_TOTALS = ("attempts", *(outcome.value for outcome in _OUTCOMES))


def _totals(findings: Sequence[Finding]) -> dict[str, Figure]:
    outcomes = Counter(finding.outcome for finding in findings)
    totals: dict[str, Figure] = {"attempts": len(findings)}
    return totals | {outcome.value: outcomes[outcome] for outcome in _OUTCOMES}
