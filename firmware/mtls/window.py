# Handfast mTLS for MicroPython: the window in which the gateway suggests to renew
# MIT license; Copyright (c) 2026 the Handfast authors
"""As ACME's renewal information (RFC 9773): `renewal_window` in /v1/devices/{id}/config, which an
operator sets to pull a fleet's renewals forward or to spread them. Loaded when it is to be asked.
"""

import time

from .errors import Unreachable

_LEAST_S = 15
_MOST_S = 21600


def moment(window, not_before, not_after, chance):
    """Return when to renew in a window [start, end] (unix seconds); None for a window to ignore.

    At random (`chance` is 0 to 65535, drawn once a leaf), RFC 9773 4.2, but with 1/6 of the life
    left at least; at once, if that has passed. Ignored is what is no window, one that begins
    after that, and one since whose start this leaf was issued: it has done what was asked for.
    """
    if not isinstance(window, (list, tuple)) or len(window) != 2:
        return None
    for t in window:
        if not isinstance(t, int) or isinstance(t, bool):
            return None
    start, end = window
    end = min(end, not_after - (not_after - not_before) // 6)
    if not not_before < start < end:
        return None
    return start + (end - start) * chance // 65535


def interval_ms(not_before, not_after):
    """Return how often to ask: 16 times a life."""
    return 1000 * min(_MOST_S, max(_LEAST_S, (not_after - not_before) // 16))


def later(agent):
    """Put the agent's next question off; return the path to ask at now."""
    wait_ms = interval_ms(agent.not_before, agent.not_after)
    agent._ask_at = time.ticks_add(time.ticks_ms(), wait_ms)
    return "/v1/devices/%s/config" % agent.store.config()["device_id"]


def heed(agent, response):
    if response.status_code == 404:
        agent._ask_at = None  # another vendor's API
    elif response.ok:
        agent.suggest(response.json())


def unheard(agent, error):
    if not isinstance(error, Unreachable):  # which the application has noticed itself
        agent._note(error)


def ask(agent):
    """Ask on the application's connection, and heed the answer; tell of what fails."""
    try:
        heed(agent, agent.session.get(later(agent)))
    except Exception as error:
        unheard(agent, error)


async def ask_async(agent):
    """As ask, for a session of mtls.aio."""
    try:
        heed(agent, await agent.session.get(later(agent)))
    except Exception as error:
        unheard(agent, error)
