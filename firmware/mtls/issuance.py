# Handfast mTLS for MicroPython: how an agent has a leaf issued
# MIT license; Copyright (c) 2026 the Handfast authors
"""Enrolment and renewal. Each function here that imports ends before a handshake begins: what it
loaded goes then, and with it a third of what a TLS session takes.
"""

import time

from micropython import const

from .client import Session
from .errors import Refused
from .heap import make_room
from .proof import commit, prove
from .timekeeping import keep_time
from .utc import now

# What lives beside the session in which a leaf is issued: key, CSR, what speaks EST. With 12 KB
# more than a session it ran out in the middle, on sim-pico-w and qemu-mps2 alike, not with 16.
_ISSUING_BYTES = const(14336)
_KEY_REUSED = const("urn:handfast:error:key-reused")


def _way(agent, refusal=None):
    from . import enrolment

    return enrolment.other_way(agent, refusal) if refusal else enrolment.way(agent)


def _first_request(agent, token):
    from .enrolment import first_request

    return first_request(agent, token)


def _next_request(agent):
    from .enrolment import next_request

    return next_request(agent)


def _finish(agent, identity, event, *facts):
    """Prove a leaf that was issued, and take it into use."""
    agent._issued_at = time.ticks_ms()
    agent._issued = identity.name
    try:
        prove(agent, identity)
    except Refused:
        agent._give_up(identity.name)
        raise
    leaf = commit(agent, identity)
    agent._renewal_wanted = False
    agent._tell(event, ("serial", "%x" % leaf.serial), ("not_after", leaf.not_after), *facts)


def _follow_up(agent, fresh):
    """After a renewal: does its leaf contradict the clock, are there new CA certificates?"""
    if fresh:  # else the leaf may have been issued long ago
        from .enrolment import doubt_hint

        doubt_hint(agent)
    if agent.store.cacerts_are_new():
        from .rollover import follow

        facts = follow(agent.store, now())
        if facts:
            agent._tell("anchors", *facts)


def _est_session(agent, identity, watch=None):
    url = agent._config["enrol_url"]
    return Session(url, agent.store, identity, agent.timeout_ms, agent.clock, watch)


def _issued(agent, name, call, *arguments):
    """Return the leaf of one EST call; a key that the server has seen before is replaced."""
    try:
        return call(*arguments)
    except Refused as refusal:
        if refusal.type == _KEY_REUSED:
            agent.store.fresh_key(name)
        raise


def enrol(agent):
    """Have a first leaf issued and take it into use: by token, else by IDevID."""
    try:
        _enrol(agent)
    finally:
        agent._rejected.clear()  # the gateway may think otherwise the next time


def _enrol(agent):
    token, idevid = _way(agent)
    try:
        _enrol_by(agent, token, idevid)
    except Refused as refusal:
        if token is None:
            raise
        refused = refusal
    else:
        return
    _enrol_by(agent, None, _way(agent, refused))


def _enrol_by(agent, token, idevid):
    agent._make_room(_ISSUING_BYTES)
    name, key_der, spki, request = _first_request(agent, token)
    make_room()
    from .est import simpleenroll

    session = _est_session(agent, idevid)
    device_id = agent._config["device_id"]
    leaf = _issued(agent, name, simpleenroll, session, request, spki, now(), device_id, token)
    simpleenroll = None
    identity = agent.store.write_identity(name, key_der, leaf)
    _finish(agent, identity, "enrolled", ("by", "token" if token else "idevid"))


def renew(agent):
    """Have the leaf issued that follows, for a fresh key, and take it into use."""
    agent._make_room(_ISSUING_BYTES)
    if not agent.failures:  # once a leaf: a crystal drifts by minutes a year, and the floor too
        agent._resync = True
        keep_time(agent)
    name, key_der, spki, request, fresh = _next_request(agent)
    if request is None:
        _finish(agent, agent.store.identity(name), "renewed")
        return
    make_room()
    from .cacerts import renewed

    session = _est_session(agent, agent._identity(), agent._watch_est)
    leaf = _issued(agent, name, renewed, session, request, spki, now(), agent)
    renewed = None
    _finish(agent, agent.store.write_identity(name, key_der, leaf), "renewed")
    _follow_up(agent, fresh)
