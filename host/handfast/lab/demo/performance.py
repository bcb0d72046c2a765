"""Several acts at once, each in a thread of its own, and what came of them."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Mapping

from handfast.lab.demo.live import ActRow
from handfast.lab.demo.report import Report
from handfast.lab.demo.scene import Act, Scene, SceneOver

_CURTAIN_S = 5.0


class Performance:
    """Starts every act at once; :meth:`reports` says in the acts' order what they found.

    Args:
        scene: what they play in.
        acts: name → act.
    """

    def __init__(self, scene: Scene, acts: Mapping[str, Act]) -> None:
        self._playing = [_Playing(name, act, scene) for name, act in acts.items()]
        for playing in self._playing:
            playing.start()

    def rows(self) -> list[ActRow]:
        """Describe how far each act is, for people."""
        return [playing.row() for playing in self._playing]

    @property
    def over(self) -> bool:
        """Whether every act has ended."""
        return all(playing.ended is not None for playing in self._playing)

    def reports(self) -> list[Report]:
        """Return what each act found; one that has not ended, or found nothing, has failed."""
        return [playing.outcome() for playing in self._playing]

    def end(self) -> None:
        """Wait, not long, for acts to notice that their scene was closed."""
        deadline = time.monotonic() + _CURTAIN_S
        for playing in self._playing:
            playing.join(max(0.0, deadline - time.monotonic()))


class _Playing(threading.Thread):
    """One act; a daemon, so that one that hangs does not hold the process."""

    def __init__(self, name: str, act: Act, scene: Scene) -> None:
        super().__init__(name=f"act {name}", daemon=True)
        self._title = name
        self._act = act
        self._scene = scene
        self._report = Report()
        self._told = "begins"
        self._error: Exception | None = None
        self._began = time.monotonic()
        self.ended: float | None = None

    def run(self) -> None:
        try:
            self._act(self._scene, self._report, self._tell)
        except SceneOver:
            pass
        except Exception as error:  # what the act did not expect is a failure like any other
            traceback.print_exception(error)
            self._error = error
        self.ended = time.monotonic()

    def _tell(self, text: str) -> None:
        self._told = text

    def row(self) -> ActRow:
        if self.ended is None:
            return ActRow(self._title, self._told)
        passed = self._error is None and self._report.passed
        return ActRow(self._title, self._told, self.ended - self._began, passed)

    def outcome(self) -> Report:
        report = self._report
        if self._error is not None:
            report.fail(self._title, f"{type(self._error).__name__}: {self._error}")
        elif self.ended is None:
            report.fail(self._title, f"did not end in time; at last: {self._told}")
        elif not report.checks:
            report.fail(self._title, "checked nothing")
        return report
