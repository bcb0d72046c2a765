"""Calls that got lost: what applications saw acknowledged against what the gateway has stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from handfast.admin_client import AdminClient
from handfast.lab.demo.expect import all_telemetry, expect
from handfast.lab.demo.fleet import DemoBoard

# A report by its boot_id and its sequence number, which counts from 1 at each boot.
Told = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Calls:
    """What became of all boards' reports, and what each connection took to open, in ms."""

    acknowledged: int
    lost: int
    handshakes_ms: tuple[float, ...]


def lost_calls(acknowledged: Sequence[Told], stored: Sequence[Told]) -> set[Told]:
    """Return the lost reports of one board.

    Lost is one that was acknowledged and is not stored exactly once, and one that was never
    acknowledged. Of the last boot, a report above the highest acknowledged one is still on its
    way; of an earlier boot, it will not come any more.

    Args:
        acknowledged: in the order in which the application saw it.
        stored: in any order.
    """
    copies = Counter(stored)
    boots = list(dict.fromkeys(boot_id for boot_id, _ in acknowledged))
    lost = {told for told in acknowledged if copies[told] != 1}
    for boot_id in boots:
        known = list(acknowledged) if boot_id == boots[-1] else [*acknowledged, *stored]
        highest = max(seq for boot, seq in known if boot == boot_id)
        lost |= {(boot_id, seq) for seq in range(1, highest + 1)} - set(acknowledged)
    return lost


def count_calls(gateway: AdminClient, boards: Sequence[DemoBoard]) -> Calls:
    """Hold every board's console against the gateway's registry."""
    acknowledged = lost = 0
    handshakes: dict[tuple[str, str, int], float] = {}
    for board in boards:
        expect(board.console.lines[0].number == 1, f"{board.name} said more than could be kept")
        theirs = board.acknowledged()
        rows = all_telemetry(gateway, board.name)
        acknowledged += len(theirs)
        lost += len(lost_calls(theirs, [(row["boot_id"], row["seq"]) for row in rows]))
        for row in rows:
            values = row["values"]
            connection = board.name, row["boot_id"], values["connections"]
            handshakes[connection] = values["handshake_ms"]
    return Calls(acknowledged, lost, tuple(handshakes.values()))


def no_call_was_lost(calls: Calls, boards: Sequence[DemoBoard]) -> str:
    """Every call was acknowledged and is stored exactly once, renewals or not."""
    silent = [board.name for board in boards if not board.acknowledged()]
    expect(not silent, f"no call ever came through from {', '.join(silent)}")
    expect(calls.lost == 0, f"{calls.lost} of {calls.acknowledged} calls were lost")
    return f"{calls.acknowledged} calls acknowledged and stored once each, none lost"
