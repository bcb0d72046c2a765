# Handfast mTLS for MicroPython: how an agent keeps the board's time
# MIT license; Copyright (c) 2026 the Handfast authors
"""Signed time first, else what can be believed until it comes (DESIGN 4.6)."""

import time

from micropython import const

from .errors import ClockNotSet, MTLSError, Unreachable
from .heap import make_room
from .utc import now

_RESYNC_MS = const(30000)
_MOST_MS = const(960000)


def keep_time(agent):
    """Set the clock if it is due; a board without an anchor fetches some first."""
    clock = agent.clock
    if clock.source == "tsa" and not agent._resync and not clock.doubtful():
        return
    if not agent.store.has_anchor():
        agent._make_room()
        from .anchors import fetch_by_fingerprint

        fetch_by_fingerprint(agent.store, clock.floor(), agent.timeout_ms)
    ends = [facts[1] for facts in agent.store.slots().values() if facts]
    end = max(ends) if ends else None
    if not clock.believable and agent._config["rtc"] and end is not None:
        with_chip(agent, end)
    if not clock.believable:
        clock.accept_running(end)
    due = time.ticks_diff(time.ticks_ms(), agent._resync_at) >= 0
    if clock.believable and not agent._resync and not due:
        return
    make_room()
    from .timesync import sync

    # An answer that does not come blocks a board for as long as it waits: ever more seldom.
    agent._resync_at = time.ticks_add(time.ticks_ms(), agent._resync_ms)
    agent._resync_ms = min(2 * agent._resync_ms, _MOST_MS)
    try:
        source = sync(agent.store, clock, end, agent.timeout_ms)
    except MTLSError as error:
        if not clock.believable:
            raise
        # Good enough to go on with, whatever the time source does: it is asked again.
        if not isinstance(error, (ClockNotSet, Unreachable)):
            agent._note(error)
        source = clock.source
    agent._resync = False
    agent._tell("clock", ("source", source), ("time", clock.require()))
    if source == "tsa":
        agent._resync_ms = _RESYNC_MS
        if agent._config["rtc"]:
            with_chip(agent, None)


def with_chip(agent, end):
    """Set the battery-backed chip, or, with the `end` of a leaf, take its time as a hint."""
    from . import ds3231

    try:
        if end is None:
            ds3231.write(agent._config["rtc"], now())
        else:
            agent.clock.accept_hint(ds3231.read(agent._config["rtc"]), end, "rtc")
    except MTLSError as error:  # it is one source of the time among others
        agent._note(error)
