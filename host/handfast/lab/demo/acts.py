"""The acts that the demo plays while its boards rotate, in the order of the report."""

from __future__ import annotations

from collections.abc import Mapping

from handfast.lab.demo.absence import long_absence
from handfast.lab.demo.entropy import entropy
from handfast.lab.demo.intruders.act import intruders
from handfast.lab.demo.lying_clock import lying_clocks
from handfast.lab.demo.power_cuts import power_cuts
from handfast.lab.demo.revocation import revocation
from handfast.lab.demo.revocation_status import revocation_status
from handfast.lab.demo.scene import Act
from handfast.lab.demo.trust_rollover import trust_rollover

ACTS: Mapping[str, Act] = {
    "power cuts": power_cuts,
    "long absence": long_absence,
    "intruders": intruders,
    "lying clocks": lying_clocks,
    "revocation": revocation,
    "revocation status": revocation_status,
    "entropy": entropy,
    "trust rollover": trust_rollover,
}
