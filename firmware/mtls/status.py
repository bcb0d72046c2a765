# Handfast mTLS for MicroPython: what an agent knows of itself, for a console or a report
# MIT license; Copyright (c) 2026 the Handfast authors

import gc

from .plan import renewal_time
from .utc import now


def status(agent):
    """Return a dict that json.dumps takes; it holds no key, token or password.

    Times are in unix seconds. `state` is "active" with a leaf in use, "clock" while no time can be
    believed, "enrolling" otherwise; `renew_at` is None without a leaf.
    """
    clock = agent.clock
    active = agent.active is not None
    session = agent.session
    found = {
        "device_id": agent.store.config()["device_id"],
        "state": "active" if active else "enrolling" if clock.believable else "clock",
        "slot": agent.active,
        "not_before": agent.not_before if active else None,
        "not_after": agent.not_after if active else None,
        "renew_at": None,
        "failures": agent.failures,
        "last_error": dict(agent.last_error) if agent.last_error else None,
        "time": now(),
        "clock_source": clock.source,
        "clock_drift_ppm": clock.drift_ppm,
        "heap_free": gc.mem_free(),
        "connections": session.connections,
        "handshake_ms": session.handshake_ms,
    }
    if active:
        own = renewal_time(agent.not_before, agent.not_after, agent._jitter)
        found["renew_at"] = agent._suggested or own
    return found
