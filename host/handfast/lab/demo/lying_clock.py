"""Boards that lost their clock are lied to by NTP while signed time cannot be had.

Each board has its gateway behind relays of its own: the one to the time-stamp authority is cut,
and those to the other listeners count what the board tries to send.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from handfast.boards.console import Event
from handfast.lab.demo.expect import expect
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.gateway_process import BOARDS_URLS
from handfast.lab.lying_ntp import LyingNtpServer
from handfast.lab.parallel import in_parallel

# A start on two busy cores; every wait below ends as soon as there is what it waits for.
_WITHIN_S = 60.0
# A board under a hint asks for signed time again after 30 s at the latest.
_RECOVERED_WITHIN_S = 30.0 + _WITHIN_S
_TIMES_TOLD = 2
# Time stamps are whole seconds, and the line about it crosses a serial port.
_TOLERANCE_S = 3.0
_SIGNED_TIME_OR_DOUBT = "mtls: (clock source=tsa|error kind=Untrusted)"
_TIME_FACTS = """
from mtls.store import Store
store = Store()
ends = [life[1] for life in store.slots().values() if life]
print((store.read_floor(), max(ends) if ends else 0))
"""


@dataclass(frozen=True, slots=True)
class _Lie:
    """What NTP says; ``time`` gets the board's newest leaf's notAfter."""

    name: str
    board: str
    believed: bool
    time: Callable[[int], int]


_LIES = (
    _Lie("2099", "told-2099", False, lambda _: 4_070_908_800),
    # On the wire this is 2106 as well (NTP counts 32 bits of seconds), and so a board reads it.
    _Lie("1970", "told-1970", False, lambda _: 0),
    _Lie("its leaf's last second", "told-last-second", True, lambda not_after: not_after - 1),
)


def lying_clocks(scene: Scene, report: Report, tell: Tell) -> None:
    """Lie to boards that woke without a clock: none is bricked, each has the right time again.

    A time that cannot be right (2099, 1970) must not be believed, and nothing may be sent under
    it. One that could be right is believed, but must not outlast the return of signed time.
    """
    tell(f"{len(_LIES)} boards enrol, lose power, and are lied to")
    for part in in_parallel(partial(_lie_to, scene), _LIES):
        report.absorb(part)
    tell(f"{sum(check.passed for check in report.checks)} of {len(_LIES)} boards recovered")


def _lie_to(scene: Scene, lie: _Lie) -> Report:
    part = Report()
    with part.check(f"clock: a board told {lie.name} recovers") as seen:
        victim = _Victim(scene, lie)
        try:
            victim.enrols()
            victim.wakes_to_the_lie()
            said = victim.goes_on_under_it() if lie.believed else victim.sends_nothing()
            seen += [said, victim.recovers(), victim.has_a_sound_floor()]
        finally:
            victim.board.board.power_off()
    return part


class _Victim:
    """One board, and what is between it and the gateway; the methods follow one another."""

    def __init__(self, scene: Scene, lie: _Lie) -> None:
        self.lie = lie
        self.gateway = scene.admin
        self.routes = {route: scene.relay(route) for route in BOARDS_URLS}
        self.tsa = self.routes["tsa_url"]
        self.ntp = scene.keep(LyingNtpServer(0))
        self.ntp_host = scene.gateway.boards_at or "127.0.0.1"
        self.board = scene.board(lie.board)
        self.woke_after = 0
        self.sent_before = 0

    def enrols(self) -> None:
        """Bring it up under signed time, and have it call."""
        config: dict[str, str | int] = {route: way.url for route, way in self.routes.items()}
        config |= {"ntp_host": self.ntp_host, "ntp_port": self.ntp.port}
        self.board.bring_up(self.gateway, config=config)
        self._event("telemetry")
        expect(self.tsa.connections > 0, "its signed time did not come through the relay")
        expect(self.ntp.told == 0, "it asked NTP though signed time was to be had")

    def wakes_to_the_lie(self) -> None:
        """Take power, RAM and clock away, cut the authority off, and switch it on again."""
        self.board.board.power_off()
        self.tsa.cut()
        leaves = self.board.enrolments() + self.board.renewals()
        newest = max(leaves, key=lambda event: event.number)
        self.ntp.says = self.lie.time(int(newest.fields["not_after"]))
        self.sent_before = self._sent()
        last = self.board.console.last_number
        self.board.board.power_on()
        self.woke_after = self._event("boot", after=last).number

    def sends_nothing(self) -> str:
        """A lie that cannot be right is called one, again and again, and nothing goes out."""
        console, after = self.board.console, self.woke_after
        for _ in range(_TIMES_TOLD):
            after = console.wait_for("mtls: (error|refused|clock)", _WITHIN_S, after=after).number
            expect(not console.events("clock", after=self.woke_after), "it believed the lie")
        errors = console.events("error", after=self.woke_after)
        doubts = [event for event in errors if event.fields.get("kind") == "ClockNotSet"]
        expect(len(doubts) >= _TIMES_TOLD, "it does not say that it has no time")
        told = self.ntp.told
        expect(told >= _TIMES_TOLD, f"NTP lied {told} times only")
        sent = self._sent() - self.sent_before
        expect(sent == 0, f"it opened {sent} connections to the gateway without knowing the time")
        expect(self.tsa.refused >= _TIMES_TOLD, "it did not ask for signed time first")
        return f"told {told} times, believed never, nothing sent to api or enrol"

    def goes_on_under_it(self) -> str:
        """A lie that could be right is the best there is: the board calls under it."""
        clock = self._event("clock", after=self.woke_after)
        expect(clock.fields.get("source") == "ntp", "the lie was not what set its clock")
        expect(self.ntp.told > 0, "NTP was not asked")
        self._event("telemetry", after=clock.number)
        return "believed as a hint, and it went on calling"

    def recovers(self) -> str:
        """Signed time is back: the board finds it by itself, is right, and calls."""
        mended = time.monotonic()
        self.tsa.mend()
        found = self.board.console.wait_for(
            _SIGNED_TIME_OR_DOUBT, _RECOVERED_WITHIN_S, after=self.woke_after
        )
        expect("Untrusted" not in found.text, f"it distrusts who is honest: {found.text}")
        clock = self._event("clock", after=found.number - 1)
        off = abs(float(clock.fields["time"]) - clock.line.at.timestamp())
        expect(off <= _TOLERANCE_S, f"its clock is {off:.1f} s off")
        self._event("telemetry", after=clock.number)
        took = time.monotonic() - mended
        return f"signed time and a call {took:.1f} s after the authority is back"

    def has_a_sound_floor(self) -> str:
        """What it will never go back behind is neither in the future nor after its leaf's end."""
        if self.board.listening is None or self.board.link is None:
            raise RuntimeError("the board has not been brought up")
        self.board.listening.close()
        self.board.link.soft_reset()
        floor, end = ast.literal_eval(self.board.link.exec(_TIME_FACTS))
        expect(0 < floor <= end, f"its floor {floor} is not before its leaf's end {end}")
        expect(floor <= time.time() + _TOLERANCE_S, f"its floor {floor} is in the future")
        return "floor within the leaf's life"

    def _sent(self) -> int:
        return self.routes["api_url"].connections + self.routes["enrol_url"].connections

    def _event(self, name: str, *, after: int = 0) -> Event:
        return self.board.console.wait_for_event(name, _WITHIN_S, after=after)
