"""What rotations cost the flash, without a cut."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tests.power_cuts.rig import Rig

_ROTATE = """
import mtls, _sim
mtls.preload()
from mtls.agent import Agent
from mtls.store import Store
told = []
agent = Agent(Store(), on_event=lambda event, facts: told.append(event))
def until(event):
    while event not in told:
        agent.step()
    agent.session.get("/v1/ping").raise_for_status()
    told.clear()
until("enrolled")
counted = []
for _ in range(%d):
    before = _sim.flash_ops(), _sim.flash_erasures()
    agent.renew()
    until("renewed")
    counted.append((_sim.flash_ops() - before[0], _sim.flash_erasures() - before[1]))
print(counted)
"""


@dataclass(frozen=True, slots=True)
class Wear:
    """Flash operations, and the erasures among them, of each of several rotations in a row."""

    operations: tuple[int, ...]
    erasures: tuple[int, ...]

    def as_json(self) -> dict[str, float]:
        """Return the figures of power_cuts.json."""
        count = len(self.operations)
        return {
            "rotations": count,
            "operations_most": max(self.operations),
            "operations_mean": round(sum(self.operations) / count, 2),
            "erasures_most": max(self.erasures),
            "erasures_mean": round(sum(self.erasures) / count, 2),
        }


def measure_wear(rig: Rig, rotations: int) -> Wear:
    """Let one board rotate again and again: from the wish to renew to the first answered call."""
    with rig.provisioned("wear", token=True) as board, rig.repl(board) as link:
        counted = ast.literal_eval(link.exec(_ROTATE % rotations, timeout_s=60 + rotations))
    operations, erasures = zip(*counted, strict=True)
    return Wear(operations, erasures)
