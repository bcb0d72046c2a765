# Handfast mTLS for MicroPython: how an agent gets a leaf, its first and those that follow
# MIT license; Copyright (c) 2026 the Handfast authors
"""What comes before the request and after it. Loaded for each, and let go of in between: what makes
keys and requests has to go before the handshake, and over it the agent keeps no more than DER.
"""

from micropython import const

from .custody import hardware_id, spare_slot
from .errors import ConfigError, NotEnrolled
from .plan import renewal_plan
from .utc import now

_SAN = const("2.5.29.17")


def way(agent):
    """Return (token, IDevID) to enrol by: the token if there is one, one of them None."""
    idevid = agent.store.identity("idevid")
    if idevid is not None and not idevid.cert_der:
        idevid = None
    token = _token(agent, idevid)
    if token is not None:
        return token, None
    if idevid is None:
        agent._token_refused = False  # asked again, but slowly
        raise NotEnrolled("no certificate, token or IDevID: provision this board")
    return None, idevid


def _token(agent, idevid):
    try:
        return None if agent._token_refused else agent.store.token()
    except ConfigError as error:
        if idevid is None:
            raise
        agent._note(error)  # neither way in depends on the other
        return None


def other_way(agent, refusal):
    """Return the IDevID after a refused token; raise the refusal if there is none."""
    if refusal.status not in (401, 403):
        raise refusal
    agent._token_refused = True
    idevid = agent.store.identity("idevid")
    if idevid is None or not idevid.cert_der:
        raise refusal
    agent._note(refusal)
    return idevid


def first_request(agent, token):
    """Return (slot, key, public key, CSR) for a first leaf, in DER; the key is on flash."""
    store = agent.store
    slots = store.slots()
    pointer = store.current()
    name = spare_slot(None, pointer, slots)
    if token is not None and pointer is None and slots[name] is not None:
        slots[name] = ()  # the token is bound to this key: the same leaf comes again
    key, key_der = _pending(agent, name, slots)
    return name, key_der, key.spki(), enrolment_request(key, store.config(), hardware_id())


def next_request(agent):
    """Return (slot, key, public key, CSR, whether the key is fresh) for the leaf that follows.

    The CSR is None if that leaf is there already, its proof cut short.
    """
    store = agent.store
    slots = store.slots()
    name = spare_slot(agent.active, agent.active, slots)
    facts = slots[name]
    if facts and facts[0] > agent.not_before and name not in agent._rejected:
        return name, None, None, None, False
    key, key_der = _pending(agent, name, slots)
    request = renewal_request(key, agent._identity().certificate())
    return name, key_der, key.spki(), request, facts != ()


def _pending(agent, name, slots):
    """Return (key, its DER), on flash before its CSR is sent; a cut-short one is taken up."""
    if slots[name] == ():
        identity = agent.store.identity(name)
        return identity.key(agent.store.drbg()), identity.key_der
    key = agent.store.fresh_key(name)
    agent._rejected.discard(name)
    return key, key.to_der()


def doubt_hint(agent):
    """A leaf that is due at once contradicts the clock: a lie would have us renew for ever."""
    verdict = renewal_plan(agent.not_before, agent.not_after, now(), agent._jitter)[0]
    clock = agent.clock
    if verdict != "wait" and clock.accept_issued(agent.not_before):
        agent._tell("clock", ("source", clock.source), ("time", now()))


def enrolment_request(key, config, hardware_id):
    """Return the CSR (DER) of a first enrolment: the names of DESIGN 7."""
    from .keys import csr, device_san, device_subject

    return csr(
        key,
        device_subject(config["device_id"], hardware_id),
        device_san(config["trust_domain"], config["device_id"]),
    )


def renewal_request(key, leaf):
    """Return the CSR (DER) that repeats subject and SAN of the leaf (RFC 7030 4.2.2)."""
    from .keys import csr

    san = leaf.extension(_SAN)
    return csr(key, leaf.subject, bytes(san[1]) if san else None)
