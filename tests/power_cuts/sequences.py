"""What boards do when their power fails, and what each has to come back to."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from handfast.boards.identify import literal
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem
from handfast.lab.demo.checks import expect
from handfast.lab.demo.comeback import (
    IN_USE,
    Boot,
    Sign,
    Vigil,
    boot,
    expect_back_alone,
    left_on_flash,
    powered,
    wakes_at,
)
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.keysearch import keys_in_flash
from handfast.pki.profiles import leaf_validity
from tests.power_cuts.board_main import DECOMMISSION_AT, OLD_APPLICATION
from tests.power_cuts.cases import Cut
from tests.power_cuts.rig import Rig, Rollover
from tests.power_cuts.stepped import SteppedBoard

_WATCH_S = 0.002
_APPLICATION_WITHIN_S = 20.0
_READ_S = 0.02
_LOOKED_AT_WITHIN_S = 300.0  # a thousand moments, each of which the gateway is asked at
_WIFI_PASSWORD = "correct-horse-battery"
_DECOMMISSIONED = Sign(re.compile(r"mtls: decommissioned[^\n]*\n"), "end of decommissioning")
_SETTLED = Sign(
    re.compile(r"mtls: telemetry [^\n]*status=200[^\n]*\n|mtls: error kind=ConfigError[^\n]*\n"),
    "report acknowledged, nor a board that finds itself decommissioned,",
)
_RUNS = re.compile(r"the old application runs\r?\n|mtls: \w[^\n]*\n")


@dataclass(frozen=True, slots=True)
class Ran:
    """One time that a board had power.

    Attributes:
        power_was_cut: as asked for.
        operations: on its flash, where it was not.
        erasures: those of them that erased a sector.
        boot: what it said, where that counts.
    """

    power_was_cut: bool
    operations: int = 0
    erasures: int = 0
    boot: Boot | None = None


def _ran(ended: Boot) -> Ran:
    if ended.power_was_cut:
        return Ran(power_was_cut=True, boot=ended)
    last = ended.events[-1].fields
    return Ran(False, int(last["flash_ops"]), int(last["erasures"]), ended)


class CutSequence(ABC):
    """Something that a power cut may interrupt.

    Attributes:
        name: on the command line and in power_cuts.json.
        exhaustive: every second cut is tried, not a sample of them.
        cuts_the_host_off: someone works on the board meanwhile, and has to cope with each cut too.
        rollover: how far the gateway has come with other trust anchors.
    """

    name: str
    exhaustive = False
    cuts_the_host_off = False
    rollover = Rollover.NOT_BEGUN

    @abstractmethod
    def prepare(self, rig: Rig) -> AbstractContextManager[DemoBoard]:
        """Lay out a board, switched off, that is about to begin."""

    @abstractmethod
    def play(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Give it power and let it do the whole sequence, or up to the cut."""

    @abstractmethod
    def recover(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Give it power again, and let it do what it does then, up to the end or another cut."""

    @abstractmethod
    def judge(self, rig: Rig, board: DemoBoard, vigil: Vigil, runs: Sequence[Ran]) -> None:
        """Hold what came of it against the promise; the last of ``runs`` was not cut.

        Args:
            rig: where the board is.
            board: switched off.
            vigil: was held since the first cut.
            runs: every time it had power.

        Raises:
            CheckFailed: it was not kept.
        """


def _patience(board: DemoBoard) -> dict[str, float]:
    """Give a board whose every moment is looked at the time for that: it waits meanwhile."""
    looked_at = isinstance(board.board, SteppedBoard) and board.board.on_moment is not None
    return {"within_s": _LOOKED_AT_WITHIN_S} if looked_at else {}


def _cut_options(cut: Cut | None) -> dict[str, int | bool]:
    return {} if cut is None else {"cut_after": cut.after, "torn": cut.torn}


def _boot(rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
    options = _cut_options(cut)
    return _ran(boot(rig.scene, board, rtc=wakes_at(board), **_patience(board), **options))


def _leaves(rig: Rig, board: DemoBoard) -> list[dict[str, str]]:
    registered = rig.scene.admin.device(board.name)["certificates"]
    return [row for row in registered if row["kind"] == "ldevid"]


def _expect_settled(rig: Rig, board: DemoBoard, link: SerialLink) -> str:
    """One leaf is in use, the pointer names it, no temporary file is left; returns its SHA-256."""
    temporary, pointed = left_on_flash(link)
    expect(not temporary, f"left on flash: {', '.join(temporary)}")
    live = [row["sha256"] for row in _leaves(rig, board) if row["state"] in IN_USE]
    expect(len(live) == 1, f"{len(live)} leaves are current or pending")
    expect(live == [pointed], "the pointer on flash does not name the leaf in use")
    return live[0]


class Enrol(CutSequence):
    """A provisioned board boots for the first time; it has one way in only."""

    def __init__(self, way: str) -> None:
        self.name = f"enrol-{way}"
        self._by_token = way != "idevid"

    def prepare(self, rig: Rig) -> AbstractContextManager[DemoBoard]:
        """Give it a token without an IDevID, or an IDevID without a token."""
        code = "os.remove('/mtls/idevid')\n" if self._by_token else ""
        return rig.provisioned(
            self.name, token=self._by_token, code=code + self.code_for_trust(rig)
        )

    def code_for_trust(self, rig: Rig) -> str:
        """Return code that changes how it is to know the gateway; it has anchors by default."""
        del rig
        return ""

    def play(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Boot up to the first report."""
        return _boot(rig, board, cut)

    def recover(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Boot again, which is the same."""
        return _boot(rig, board, cut)

    def judge(self, rig: Rig, board: DemoBoard, vigil: Vigil, runs: Sequence[Ran]) -> None:
        """It calls the API by a key in its own flash; by a token it has one leaf in all."""
        _expect_called(vigil, runs)
        with rig.repl(board) as link:
            _expect_settled(rig, board, link)
        if self._by_token:
            issued = len(_leaves(rig, board))
            expect(issued == 1, f"one token gave {issued} leaves")


class EnrolByFingerprint(Enrol):
    """A board with a token and no anchors boots: it knows the root by its SHA-256 alone."""

    def __init__(self) -> None:
        super().__init__("fingerprint")

    def code_for_trust(self, rig: Rig) -> str:
        """Leave it the root's fingerprint in place of its anchors, and not even their folder."""
        return (
            "import json\nfor name in os.listdir('/mtls/anchor'):\n"
            " os.remove('/mtls/anchor/' + name)\n"
            "os.rmdir('/mtls/anchor')\n"
            "with open('/mtls/config.json') as file:\n config = json.load(file)\n"
            f"config['root_sha256'] = '{_sha256(rig.trusted.roots[0])}'\n"
            "with open('/mtls/config.json', 'w') as file:\n json.dump(config, file)"
        )

    def judge(self, rig: Rig, board: DemoBoard, vigil: Vigil, runs: Sequence[Ran]) -> None:
        """The same as by a token, and it holds the root and the `server` CA, whole."""
        super().judge(rig, board, vigil, runs)
        with rig.repl(board) as link:
            held = _anchors(link)
        expected = _held(rig.trusted.roots, rig.trusted.server_cas)
        expect(held == expected, f"its anchors are not those of the gateway: {held}")


def _expect_called(vigil: Vigil, runs: Sequence[Ran]) -> None:
    boots = [ran.boot for ran in runs if ran.boot is not None]
    expect_back_alone(vigil.aftermath(boots[-1]))


_DUE = """
from mtls.store import Store
store = Store()
due = store.slots()[store.current()][0]
with open("/due", "w") as file:
    file.write(str(due))
print(due)
"""


def _let_the_leaf_be_due(rig: Rig, link: SerialLink) -> None:
    due = int(link.exec(_DUE))
    # Leaves are told apart by their notBefore.
    while _not_before_of_a_leaf_issued_now(rig) <= due:
        rig.scene.pause(_READ_S)


def _not_before_of_a_leaf_issued_now(rig: Rig) -> int:
    validity = leaf_validity(datetime.now(UTC), rig.scene.lifetime_s)
    return int(validity.not_before.timestamp())


class ReEnrol(CutSequence):
    """A board renews its leaf, its only way in."""

    name = "re-enrol"
    exhaustive = True

    @contextmanager
    def prepare(self, rig: Rig) -> Iterator[DemoBoard]:
        """Let it enrol and report, and let that leaf be due."""
        code = "os.remove('/mtls/idevid')"
        with rig.provisioned(self.name, token=True, code=code) as board:
            self.before_enrolment(rig, board)
            _boot(rig, board, None)
            with rig.repl(board) as link:
                _let_the_leaf_be_due(rig, link)
            yield board

    def before_enrolment(self, rig: Rig, board: DemoBoard) -> None:
        """Change what the board holds before it enrols."""

    def play(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Boot up to the first report, which is by the new leaf."""
        return _boot(rig, board, cut)

    def recover(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Boot again: the old leaf is still due, if it is still there."""
        return _boot(rig, board, cut)

    def judge(self, rig: Rig, board: DemoBoard, vigil: Vigil, runs: Sequence[Ran]) -> None:
        """It calls the API by a key in its own flash, and that is not the old one."""
        _expect_called(vigil, runs)
        with rig.repl(board) as link:
            in_use = _expect_settled(rig, board, link)
            comes_later = self.look_further(rig, link)
        oldest = min(_leaves(rig, board), key=lambda row: row["not_before"])
        expect(in_use != oldest["sha256"], "it did not renew")
        if comes_later:
            _boot(rig, board, None)
            with rig.repl(board) as link:
                again = self.look_further(rig, link)
            expect(not again, f"nor at its next renewal: {again}")

    def look_further(self, rig: Rig, link: SerialLink) -> str:
        """Look at what else it holds; return what is left to its next renewal, then due at once.

        Raises:
            CheckFailed: what it holds is no state to be in.
        """
        del rig, link  # a leaf is all
        return ""


@dataclass(frozen=True, slots=True)
class Held:
    """The SHA-256 of the trust anchors that a board holds, of each kind."""

    roots: frozenset[str]
    server_cas: frozenset[str]


def _held(roots: Sequence[bytes], server_cas: Sequence[bytes]) -> Held:
    return Held(frozenset(map(_sha256, roots)), frozenset(map(_sha256, server_cas)))


class FollowRollover(ReEnrol):
    """A board that renews hears of other trust anchors: it takes the new, or lets the old go."""

    def __init__(self, name: str, rollover: Rollover) -> None:
        self.name = name
        self.rollover = rollover

    def before_enrolment(self, rig: Rig, board: DemoBoard) -> None:
        """Leave it the anchors that it would have from before: the old ones, or both."""
        roots, server_cas = self._first(rig.trusted.roots), self._first(rig.trusted.server_cas)
        named = {
            f"/mtls/anchor/{kind}-{_sha256(der)[:16]}.der": der
            for kind, ders in (("root", roots), ("tls", server_cas))
            for der in ders
        }
        with rig.repl(board) as link:
            link.push(named)
            link.exec(
                "import os\nfor name in os.listdir('/mtls/anchor'):\n"
                " path = '/mtls/anchor/' + name\n"
                f" if path not in {sorted(named)}:\n  os.remove(path)"
            )

    def _first(self, ders: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return ders if self.rollover.has_ended else ders[:1]

    def _steps(self, rig: Rig) -> list[Held]:
        """Return what it may hold, from before to after; roots come first, and go last."""
        roots, server_cas = rig.trusted.roots, rig.trusted.server_cas
        if self.rollover.has_ended:
            steps = [
                _held(roots, server_cas),
                _held(roots, server_cas[-1:]),
                _held(roots[-1:], server_cas[-1:]),
            ]
        else:
            steps = [
                _held(roots[:1], server_cas[:1]),
                _held(roots, server_cas[:1]),
                _held(roots, server_cas),
            ]
        return list(dict.fromkeys(steps))

    def look_further(self, rig: Rig, link: SerialLink) -> str:
        """Look at its anchors: it has followed, or does at its next renewal."""
        steps = self._steps(rig)
        held = _anchors(link)
        expect(held in steps, f"its anchors are not one set: {held}")
        if held == steps[-1]:
            return ""
        _let_the_leaf_be_due(rig, link)
        return f"it has not followed: {held}"


def _sha256(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _anchors(link: SerialLink) -> Held:
    """Return what it holds; raises CheckFailed if a file is half written."""
    left, held = literal(
        link,
        "import os\nfrom mtls.store import Store\n"
        "left = [name for name in os.listdir('/mtls/anchor') if name.endswith('.new')]\n"
        "print(repr((left, Store().fingerprints())))",
    )
    expect(not left, f"left beside the anchors: {', '.join(left)}")
    return Held(frozenset(held["root"]), frozenset(held["tls"]))


class Provision(CutSequence):
    """The host provisions a board that runs another application."""

    name = "provision"
    cuts_the_host_off = True

    @contextmanager
    def prepare(self, rig: Rig) -> Iterator[DemoBoard]:
        """Put an application on a blank board that knows nothing of us."""
        with rig.board(self.name) as board:
            with rig.repl(board) as link:
                link.push({"/main.py": OLD_APPLICATION.encode()})
            yield board

    def play(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Provision it: library, trust, IDevID, token, application."""
        return self._provision(rig, board, cut, wait=False)

    def recover(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """See one of the applications run, and provision the board again."""
        return self._provision(rig, board, cut, wait=True)

    def _provision(self, rig: Rig, board: DemoBoard, cut: Cut | None, *, wait: bool) -> Ran:
        try:
            with powered(board, **_cut_options(cut)), _cable_goes_with_the_power(board):
                if wait:
                    _await_application(board)
                rig.provision(board)
                with SerialLink.open(board.board.serial_url, capture=board.capture) as link:
                    told = link.exec(
                        "import _sim\nprint(_sim.flash_ops(), _sim.flash_erasures())"
                    ).split()
        except BoardProblem:
            if not board.board.power_was_cut:
                raise
            rig.plug_in(board)
            return Ran(power_was_cut=True)
        return Ran(False, int(told[0]), int(told[1]))

    def judge(self, rig: Rig, board: DemoBoard, vigil: Vigil, runs: Sequence[Ran]) -> None:
        """It enrols and calls, without more help than provisioning it again."""
        del vigil, runs  # the help that is meant
        vigil = Vigil(rig.scene, board)
        ended = boot(rig.scene, board, rtc=wakes_at(board))
        expect_back_alone(vigil.aftermath(ended))
        with rig.repl(board) as link:
            _expect_settled(rig, board, link)


@contextmanager
def _cable_goes_with_the_power(board: DemoBoard) -> Iterator[None]:
    """Unplug a board whose power failed, as USB does: nobody waits for its answer."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH_S):
            if board.board.power_was_cut:
                board.board.unplug()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _await_application(board: DemoBoard) -> None:
    """Wait until either application has shown itself, or the power is gone."""
    deadline = time.monotonic() + _APPLICATION_WITHIN_S
    told = ""
    with SerialLink.open(board.board.serial_url, capture=board.capture) as link:
        while not _RUNS.search(told):
            expect(time.monotonic() < deadline, f"no application runs; it said: {told[-200:]!r}")
            told += link.read_console(_READ_S)


class Decommission(CutSequence):
    """A board is told to leave the fleet; a small chip, of which each free block is erased."""

    name = "decommission"
    _SECTORS = 124

    def __init__(self) -> None:
        self._tokens: dict[Path, str] = {}  # by the flash image of the board that was given it

    @contextmanager
    def prepare(self, rig: Rig) -> Iterator[DemoBoard]:
        """Let it enrol by a token; it has an IDevID and a Wi-Fi password too."""
        secret = (
            "import json\nwith open('/mtls/secret.json') as file:\n secret = json.load(file)\n"
            f"secret['wifi'] = {json.dumps({'home': _WIFI_PASSWORD})}\n"
            "with open('/mtls/secret.json', 'w') as file:\n json.dump(secret, file)"
        )
        with rig.provisioned(self.name, token=True, code=secret, sectors=self._SECTORS) as board:
            with rig.repl(board) as link:
                token = literal(link, "from mtls.store import Store\nprint(repr(Store().token()))")
            image = board.board.flash_image
            expect(token.encode() in image.read_bytes(), "its token is not found even while kept")
            self._tokens[image] = token
            _boot(rig, board, None)
            yield board

    def play(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Decommission it, before its application would start."""
        options = _cut_options(cut)
        at, sign = DECOMMISSION_AT, _DECOMMISSIONED
        return _ran(boot(rig.scene, board, rtc=at, sign=sign, **_patience(board), **options))

    def recover(self, rig: Rig, board: DemoBoard, cut: Cut | None) -> Ran:
        """Boot for the application, which finds the board as it was or with nothing on it."""
        options = _cut_options(cut)
        return _ran(boot(rig.scene, board, rtc=wakes_at(board), sign=_SETTLED, **options))

    def judge(self, rig: Rig, board: DemoBoard, vigil: Vigil, runs: Sequence[Ran]) -> None:
        """Nothing is usable or readable, unless the power failed before it had begun at all."""
        boots = [ran.boot for ran in runs if ran.boot is not None]
        if boots[-1].reported:
            woke = [event for ended in boots for event in ended.named("woke")]
            begun = any(event.fields["tombstone"] == "True" for event in woke)
            expect(not begun, "it calls after its decommissioning had begun")
            expect_back_alone(vigil.aftermath(boots[-1]))
            boots.append(self.play(rig, board, None).boot or boots[-1])
        after = self.recover(rig, board, None).boot
        expect(after is not None and not after.reported, "it calls after it was decommissioned")
        image = board.board.flash_image.read_bytes()
        left = len(keys_in_flash(image))
        expect(left == 0, f"{left} private keys are readable on its flash")
        expect(_WIFI_PASSWORD.encode() not in image, "its Wi-Fi password is readable on its flash")
        token = self._tokens[board.board.flash_image]
        expect(token.encode() not in image, "its token is readable on its flash")


SEQUENCES: dict[str, CutSequence] = {
    sequence.name: sequence
    for sequence in (
        Provision(),
        Enrol("token"),
        Enrol("idevid"),
        EnrolByFingerprint(),
        ReEnrol(),
        FollowRollover("rollover-take", Rollover.PUBLISHED),
        FollowRollover("rollover-drop", Rollover.SWITCHED),
        FollowRollover("rollover-root", Rollover.ROOT_PUBLISHED),
        FollowRollover("rollover-root-drop", Rollover.ROOT_RETIRED),
        Decommission(),
    )
}
