"""The power fails in the middle of flash operations, again and again: the board goes on alone."""

from __future__ import annotations

import enum
import json
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from handfast.boards.provision import TOKEN_LIFETIME_S
from handfast.boards.serial_link import SerialLink
from handfast.errors import CheckFailed
from handfast.lab.demo.comeback import (
    IN_USE,
    Boot,
    Vigil,
    boot,
    expect_back_alone,
    left_on_flash,
    powered,
    provision_and_switch_off,
    wakes_at,
)
from handfast.lab.demo.expect import all_telemetry, expect
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell

LEAST_CUTS = 50
# Of the boots that were to be cut, some get through: phases differ in length from time to time.
_MOST_TRIES = 3 * LEAST_CUTS
# After one cut in so many the power fails a second time, while the board recovers.
_AGAIN_EVERY = 4

# What the board's clock shows as the power comes says what this boot is for.
_RENEW_AT = 1_000_000_000
_QUIET_AT = 1_100_000_000

# The flash operations so far stand in each event, so that a phase can be measured and a cut placed.
_MAIN = f"""
import _sim
import app
from mtls import clock

_say, _start = app.say, app.start
_woke = clock.now()

def _since(moment):
    return 0 <= _woke - moment < 60

def say(event, facts=()):
    _say(event, tuple(facts) + (("flash_ops", _sim.flash_ops()),))

def start(store):
    agent, reporter = _start(store)
    if _since({_RENEW_AT}):
        agent.renew()
    return agent, reporter

app.say, app.start = say, start
if not _since({_QUIET_AT}):
    app.main()
"""

_FORGET = """
import os
for name in os.listdir("/mtls"):
    if name in ("current", "slot-a", "slot-b"):
        os.remove("/mtls/" + name)
"""


class _While(enum.Enum):
    """What a board does when its power fails."""

    ROTATING = "rotating"
    BY_TOKEN = "enrolling by token"  # noqa: S105 - a phase, no secret
    BY_IDEVID = "enrolling by IDevID"


# What the board says of its enrolments in each phase.
_ENROLLED = {
    _While.ROTATING: [],
    _While.BY_TOKEN: ["token"],
    _While.BY_IDEVID: ["idevid"],
}
_MIX = (_While.ROTATING, _While.BY_TOKEN, _While.ROTATING, _While.BY_IDEVID)


def power_cuts(scene: Scene, report: Report, tell: Tell, *, seed: int | None = None) -> None:
    """Cut one board's power at random flash operations of enrolment and rotation.

    With the same ``seed`` the cuts come at the same operations of the same phases; one is drawn
    unless it is given.
    """
    chosen = secrets.randbelow(1 << 32) if seed is None else seed
    bench = _Bench(scene, chosen)
    with report.check("power cuts: every one survived") as seen, bench.named_seed():
        bench.set_up(tell)
        bench.cut(tell)
        seen.append(bench.summary())
    report.totals |= {"power_cuts": bench.cuts.total(), "power_cuts_survived": bench.survived}
    with report.check("power cuts: nothing lost, nothing left over") as seen, bench.named_seed():
        seen.append(bench.nothing_is_left_over())
        seen.append(bench.nothing_is_lost())


class _Bench:
    """One board, its power switch, and the count of what became of it.

    Attributes:
        cuts: real cuts by what the board was doing; a second one in a recovery is not counted.
        survived: cuts after which the board came back alone.
    """

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not secret
        self._board = scene.board("board-cut")
        self._windows: dict[_While, range] = {}
        self._boots: list[Boot] = []
        self._again = 0
        self.cuts: Counter[_While] = Counter()
        self.survived = 0

    @contextmanager
    def named_seed(self) -> Iterator[None]:
        """Add to a failure what it takes to repeat it."""
        try:
            yield
        except CheckFailed as failure:
            raise CheckFailed(f"{failure} (seed {self._seed})") from failure

    # The board

    def _boot(self, doing: _While | None = None, cut_after: int | None = None) -> Boot:
        """Power on, to rotate at once or to do what comes; off again after the first report."""
        rtc = _RENEW_AT if doing is _While.ROTATING else wakes_at(self._board)
        ended = boot(self._scene, self._board, rtc=rtc, cut_after=cut_after)
        self._boots.append(ended)
        return ended

    @contextmanager
    def _repl(self) -> Iterator[SerialLink]:
        """Power on with the application kept from starting; off again at the end."""
        board = self._board
        with (
            powered(board, rtc=_QUIET_AT),
            SerialLink.open(board.board.serial_url, capture=board.capture) as link,
        ):
            yield link

    def set_up(self, tell: Tell) -> None:
        """Provision the board, and see over which flash operations uncut phases extend."""
        tell("provisions the board")
        provision_and_switch_off(self._scene, self._board, change=_wrap_application)
        for doing in (_While.BY_TOKEN, _While.ROTATING, _While.BY_IDEVID):
            tell(f"measures {doing.value}")
            if self._boots:  # the first token came with provisioning
                self._prepare(doing)
            self._windows[doing] = _window(self._boot(doing), doing)

    def _prepare(self, doing: _While) -> None:
        """Bring the board, switched off, to where that phase begins."""
        if doing is _While.ROTATING:
            return
        with self._repl() as link:
            self._expect_pointer(link)
            link.exec(_FORGET)
            if doing is _While.BY_TOKEN:
                made = self._scene.admin.create_token(self._board.name, lifetime_s=TOKEN_LIFETIME_S)
                link.push({"/mtls/secret.json": json.dumps({"token": made["token"]}).encode()})

    def _expect_pointer(self, link: SerialLink) -> None:
        """The pointer is on flash before the first request, so it never names an outdated leaf."""
        _, leaf = left_on_flash(link)
        expect(leaf is not None, "the pointer to the leaf in use is not on the board's flash")
        state = {row["sha256"]: row["state"] for row in self._leaves()}.get(leaf, "unknown")
        expect(state in IN_USE, f"the pointer on the board's flash names a leaf that is {state}")

    def _leaves(self) -> list[dict[str, Any]]:
        registered = self._scene.admin.device(self._board.name)["certificates"]
        return [row for row in registered if row["kind"] == "ldevid"]

    # Cutting

    def cut(self, tell: Tell) -> None:
        """Cut the power until it was often enough; each time the board must come back."""
        for _ in range(_MOST_TRIES):
            done = self.cuts.total()
            tell(f"{self.survived} of {LEAST_CUTS} cuts survived")
            if done == LEAST_CUTS:
                return
            doing = _MIX[done % len(_MIX)]
            operation = self._random.choice(self._windows[doing])
            again = self._random.randrange(2 * self._windows[doing].start)
            twice = self._random.randrange(_AGAIN_EVERY) == 0
            self._try(doing, operation, again if twice else None)
        raise CheckFailed(f"the power failed {self.cuts.total()} times only in {_MOST_TRIES} boots")

    def _try(self, doing: _While, operation: int, again: int | None) -> None:
        """Cut once, and once more after ``again`` operations of the recovery if given."""
        self._prepare(doing)
        ended = self._boot(doing, operation)
        if not ended.power_was_cut:
            # The first rotation after an enrolment takes note of the CA certificates as well, and
            # has twice the operations of a later one: most cuts drawn from it would come too late.
            self._windows[doing] = _window(ended, doing)
            return
        self.cuts[doing] += 1
        vigil = Vigil(self._scene, self._board)
        try:
            if again is not None:
                self._again += self._boot(cut_after=again).power_was_cut
            expect_back_alone(vigil.aftermath(self._boot()))
        except CheckFailed as failure:
            second = "" if again is None else f" and at {again} of the recovery"
            raise CheckFailed(
                f"cut while {doing.value} at flash operation {operation}{second}: {failure}"
            ) from failure
        self.survived += 1

    def summary(self) -> str:
        """Say what was survived."""
        mix = ", ".join(f"{count} {doing.value}" for doing, count in self.cuts.items())
        spans = ", ".join(f"{w.start}-{w.stop - 1} {d.value}" for d, w in self._windows.items())
        return (
            f"{self.survived} of {self.cuts.total()} cuts ({mix}; {self._again} of them cut again "
            "while recovering): each time a new authorised request by a key in its own flash, "
            f"without help; flash operations {spans}; seed {self._seed}"
        )

    # What is left

    def nothing_is_left_over(self) -> str:
        """After one more rotation: no temporary file, one live leaf, and the pointer names it."""
        expect(bool(self._boot(_While.ROTATING).named("renewed")), "it does not rotate any more")
        with self._repl() as link:
            temporary, pointed = left_on_flash(link)
        expect(not temporary, f"left on flash: {', '.join(temporary)}")
        leaves = self._leaves()
        live = [row["sha256"] for row in leaves if row["state"] in IN_USE]
        expect(len(live) == 1, f"{len(live)} leaves are current or pending")
        expect(live == [pointed], "the pointer on flash does not name the current leaf")
        boots = len(self._boots)
        expect(len(leaves) <= boots, f"{len(leaves)} leaves were issued in {boots} boots")
        return f"{len(leaves)} leaves issued in {boots} boots, one of them live; no temporary file"

    def nothing_is_lost(self) -> str:
        """Each report that the application saw acknowledged is stored once, whatever came after."""
        acknowledged = [told for ended in self._boots for told in ended.reported]
        rows = all_telemetry(self._scene.admin, self._board.name)
        stored = Counter((row["boot_id"], row["seq"]) for row in rows)
        lost = sum(1 for told in acknowledged if stored[told] != 1)
        twice = sum(1 for count in stored.values() if count > 1)
        expect(bool(acknowledged), "no report was ever acknowledged")
        expect(lost == 0, f"{lost} of {len(acknowledged)} acknowledged reports were lost")
        expect(twice == 0, f"{twice} reports are stored more than once")
        return f"{len(acknowledged)} acknowledged reports, each stored once"


def _wrap_application(link: SerialLink) -> None:
    """Let the board's application run inside :data:`_MAIN`."""
    link.exec("import os\nos.rename('/main.py', '/app.py')")
    link.push({"/main.py": _MAIN.encode()})


def _window(uncut: Boot, doing: _While) -> range:
    """Return the flash operations of a phase: from its signed time to its first report.

    Before that there is only the seed, which each boot replaces.
    """
    enrolled = [event.fields.get("by") for event in uncut.named("enrolled")]
    did = enrolled == _ENROLLED[doing] and bool(enrolled or uncut.named("renewed"))
    expect(did, f"without a cut the board was not {doing.value}")
    last = uncut.named("ping")
    expect(bool(last), "the board never called")
    first = uncut.named("clock")[0]
    return range(int(first.fields["flash_ops"]), int(last[-1].fields["flash_ops"]))
