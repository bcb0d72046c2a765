"""The act about trust anchors: a new root and a new server CA under a board that calls on."""

from __future__ import annotations

import shutil
import time

from handfast.boards.console import Event
from handfast.errors import CheckFailed
from handfast.lab.demo.calls import count_calls, no_call_was_lost
from handfast.lab.demo.expect import expect
from handfast.lab.demo.fleet import DemoBoard
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.rollover import (
    begin_root_rollover,
    begin_server_rollover,
    fingerprint,
    load_published,
)
from handfast.state import StateDir

# A board asks for CA certificates when it renews: at two thirds of this.
_LIFETIME_S = 9
_WITHIN_S = 60.0
_POLL_S = 0.1


def trust_rollover(scene: Scene, report: Report, tell: Tell) -> None:
    """Roll both over on a gateway of the act's own: its devices would wait for everybody else's."""
    rolling = _Rolling(scene, tell)
    with report.check("trust rollover: a new root, taken through the old one") as seen:
        rolling.set_up()
        seen.append(rolling.take())
    with report.check("trust rollover: a new server CA, no call lost") as seen:
        seen.append(rolling.switch())


class _Rolling:
    """One board, the gateway that it calls, and what the two of them hold as trusted."""

    def __init__(self, scene: Scene, tell: Tell) -> None:
        self.scene = scene
        self.tell = tell
        self.state = StateDir(scene.folder / "rollover")
        self.board: DemoBoard | None = None
        self.gateway: GatewayProcess | None = None
        self.taken: Event | None = None
        self.root = self.server = ""  # the new ones, by SHA-256

    def set_up(self) -> None:
        """Have a gateway with the demo's CAs, and a board that calls it."""
        scene, state = self.scene, self.state
        self.tell("starts a gateway and a board")
        state.create()
        shutil.copytree(scene.state.ca, state.ca)
        options = GatewayOptions(
            device_lifetime_s=_LIFETIME_S * scene.pace,
            overlap_s=scene.overlap_s,
            boards_at=scene.gateway.boards_at,
        )
        self.gateway = GatewayProcess(state, scene.passphrase, options)
        scene.keep(self.gateway)
        self.board = scene.board("board-rolling")
        self.board.bring_up(self.gateway.admin)
        self.board.console.wait_for_event("telemetry", _WITHIN_S)

    def take(self) -> str:
        """Publish a new root and a new server CA below it; the board takes both in one renewal."""
        board, gateway = self._on_stage()
        old = load_published(self.state)
        self.tell("makes a new root and a new server CA")
        self.root = fingerprint(begin_root_rollover(self.state, self.scene.passphrase))
        self.server = fingerprint(begin_server_rollover(self.state, self.scene.passphrase))
        status = gateway.admin.reload_trust()
        for kind in ("root", "server"):
            waiting = [one["device_id"] for one in status[kind]["waiting_for"]]
            expect(waiting == [board.name], f"the gateway waits for {waiting} over the {kind}")
        expect(
            status["server"]["in_use"] == fingerprint(old.server),
            "the gateway presents the new server CA before any board can have it",
        )
        self.tell("the board renews, and takes both")
        self.taken = board.console.wait_for_event("anchors", _WITHIN_S)
        self._wait_for_report("root", [self.root, fingerprint(old.root)])
        return "the board had the old root alone, and now has both, by its own report"

    def switch(self) -> str:
        """Wait until the gateway presents the new CA, and the board has let the old ones go."""
        board, gateway = self._on_stage()
        if self.taken is None:
            raise CheckFailed("the board took no new anchors")
        self.tell("the gateway switches")
        self._wait_for_report("tls", [self.server])
        self._wait_for_report("root", [self.root])
        dropped = board.console.wait_for_event("anchors", _WITHIN_S, after=self.taken.number)
        board.console.wait_for_event("telemetry", _WITHIN_S, after=dropped.number)
        status = gateway.admin.rollover()
        expect(status["server"]["in_use"] == self.server, "there was no switch")
        expect(status["root"]["old"] is None, "the old root is still published")
        refused = board.console.events("refused") + board.console.events("error")
        expect(not refused, f"the board was in trouble: {refused[0].line.text if refused else ''}")
        calls = no_call_was_lost(count_calls(gateway.admin, [board]), [board])
        self.tell("old root and server CA are gone")
        return f"switched when the board had reported it, and the board let the old go; {calls}"

    def _on_stage(self) -> tuple[DemoBoard, GatewayProcess]:
        if self.board is None or self.gateway is None:
            raise CheckFailed("the board or its gateway did not start")
        return self.board, self.gateway

    def _wait_for_report(self, kind: str, wanted: list[str]) -> None:
        board, gateway = self._on_stage()
        deadline = time.monotonic() + _WITHIN_S
        while True:
            said = gateway.admin.device(board.name)["anchors"]
            held = said[kind] if said else []
            if sorted(held) == sorted(wanted):
                return
            expect(time.monotonic() < deadline, f"{board.name} reports {len(held)} {kind} anchors")
            self.scene.pause(_POLL_S)
