# Handfast mTLS for MicroPython: a leaf is proven before it counts
# MIT license; Copyright (c) 2026 the Handfast authors
"""A handshake with it that the gateway accepts, then the pointer; until then the old one stands."""

from micropython import const

from .client import Session
from .errors import MTLSError, Refused, StoreDamaged
from .utc import now

_ETIMEDOUT = const(110)


def recover(agent):
    """Take a leaf into use that is on flash already; return whether there is one that may be."""
    store = agent.store
    pointer = store.current()
    from .custody import recovery_order

    for name in recovery_order(pointer, store.slots(), False, agent.clock.require()):
        if name in agent._rejected:
            continue
        identity = store.identity(name)
        if name == pointer:
            agent._use(identity)
            return True
        if _proven(agent, identity):
            leaf = commit(agent, identity)
            agent._tell("recovered", ("slot", name), ("serial", "%x" % leaf.serial))
            return True
    return False


def prove(agent, identity):
    """A handshake and a bounded wait, without a request: a request would be the switch."""
    session = Session(
        agent._config["api_url"], agent.store, identity, agent.timeout_ms, agent.clock
    )
    try:
        session.connect()
        _wait_for_close(session, agent.prove_ms)
    finally:
        session.close()


def _wait_for_close(session, wait_ms):
    """Send nothing and wait; raise Refused if the peer closes or alerts meanwhile."""
    connection = session._connection
    connection.extend(wait_ms)
    try:
        n = connection.receive_into(bytearray(1))
    except OSError as error:
        if error.errno == _ETIMEDOUT:
            return
        n = 0
    raise Refused(0, None, "%s %s" % (session.host, "spoke first" if n else "hung up"))


def _proven(agent, identity):
    agent._make_room()
    try:
        prove(agent, identity)
    except Refused as refusal:
        agent._give_up(identity.name)
        agent._note(refusal)
        return False
    return True


def commit(agent, identity):
    """The pointer is on flash before the first request goes out with the new leaf."""
    agent.store.set_current(identity.name)
    if agent.store.current() != identity.name:
        raise StoreDamaged("the pointer to slot %s did not reach the flash" % identity.name)
    leaf = agent._use(identity)
    raise_floor(agent)
    return leaf


def raise_floor(agent):
    try:
        agent.clock.raise_floor(now(), agent.not_after)
    except MTLSError as error:  # a full flash; the leaf is good all the same
        agent._note(error)
