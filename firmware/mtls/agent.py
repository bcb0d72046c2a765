# Handfast mTLS for MicroPython: keeps time and a valid identity, and survives what comes
# MIT license; Copyright (c) 2026 the Handfast authors
"""Call `step()` from the application's loop; it returns the ms until it wants to be called again.

Requests go through `agent.session`: it presents the current leaf, and the agent closes it before
opening a TLS session of its own, so that there is never more than one.
"""

import time

from micropython import const

from .clock import Clock, now
from .client import Session
from .errors import (
    ClockNotSet,
    ConfigError,
    FlashFull,
    MTLSError,
    NotEnrolled,
    OutOfMemory,
    Refused,
    StoreDamaged,
    Unreachable,
    Untrusted,
    console_facts,
)
from .heap import make_room
from .plan import backoff_ms, renewal_plan
from .store import hardware_id, recovery_order, spare_slot

_PROVE_MS = const(300)
_MAX_WAIT_MS = const(60000)
_RESYNC_MS = const(30000)
_HANDSHAKE_REFUSALS = const(3)
_PREFIX = const("urn:handfast:error:")
_KEY_REUSED = _PREFIX + "key-reused"
_NOT_YET_VALID = _PREFIX + "certificate-not-yet-valid"
# Said of one certificate, not of the device: the other slot or the IDevID may still be good.
_ABOUT_THE_LEAF = const(
    (
        "no-certificate",
        "unknown-certificate",
        "certificate-expired",
        "certificate-superseded",
        "certificate-revoked",
        "wrong-certificate-kind",
    )
)


def about_the_leaf(refusal):
    kind = refusal.type or ""
    return kind.startswith(_PREFIX) and kind[len(_PREFIX) :] in _ABOUT_THE_LEAF


class Agent:
    """`on_event(name, facts)` hears "clock", "enrolled", "renewed", "recovered", "anchors",
    "refused" and "error"; facts are (key, value) pairs without secrets."""

    def __init__(self, store, clock=None, on_event=None, timeout_ms=10000):
        self.store = store
        self.clock = clock or Clock(store)
        self.active = None  # "a" or "b", once its leaf may be used
        self.not_before = self.not_after = 0
        self.timeout_ms = timeout_ms
        self.failures = 0
        self._on_event = on_event
        self._config = store.config()
        self._rejected = set()
        self._handshake_refusals = 0
        self._confirmed = False
        self._token_refused = False
        self._renewal_wanted = False
        self._resync = True
        self._resync_at = time.ticks_ms()
        self._jitter = 0
        self.session = Session(
            self._config["api_url"], store, self._identity, timeout_ms, self.clock, self._watch
        )
        store.sweep()
        for not_before in store.issued():
            self.clock.note_not_before(not_before)

    def _tell(self, event, *facts):
        if self._on_event is not None:
            self._on_event(event, facts)

    def _identity(self):
        return self.store.identity(self.active) if self.active else None

    def renew(self):
        """Want a fresh key and leaf from the next `step()` on, however young the present one is.

        It stands until one is in use; for a key that may have been seen, or a drill.
        """
        self._renewal_wanted = True

    def step(self):
        """Do what is due; never raises an MTLSError. Returns ms until the next call."""
        try:
            wait_ms = self._advance()
            self.failures = 0
            return wait_ms
        except MTLSError as error:
            failure = error
        except MemoryError:
            failure = OutOfMemory("not enough heap: free some")
        self._note(failure)
        self.failures += 1
        left_s = self.not_after - now() if self.active else 0
        wait_ms = backoff_ms(self.failures, left_s, self._random_octet())
        return max(wait_ms, failure.retry_after_s * 1000)

    def _random_octet(self):
        try:
            return self.store.drbg().generate(1)[0]
        except MTLSError:
            return 255

    def _note(self, error):
        if isinstance(error, Untrusted):
            self._resync = True  # a wrong clock is the likeliest reason
        event, facts = console_facts(error)
        self._tell(event, *facts)

    def _advance(self):
        self.store.drbg()  # with stuck entropy nothing goes out at all
        self._keep_time()
        if self.active is None:
            self._adopt()
        verdict, seconds = renewal_plan(
            self.not_before, self.not_after, self.clock.require(), self._jitter
        )
        if verdict == "lost":
            self._drop()
            return 0
        if verdict == "renew" or self._renewal_wanted:
            self._renew()
            return 0
        return min(seconds * 1000, _MAX_WAIT_MS)

    # Time

    def _keep_time(self):
        clock = self.clock
        if clock.source == "tsa" and not self._resync:
            return
        if not self.store.has_anchor():
            from .anchors import fetch_by_fingerprint

            fetch_by_fingerprint(self.store, clock.floor(), self.timeout_ms)
        ends = [facts[1] for facts in self.store.slots().values() if facts]
        end = max(ends) if ends else None
        if not clock.believable:
            clock.accept_running(end)
        due = time.ticks_diff(time.ticks_ms(), self._resync_at) >= 0
        if clock.believable and not self._resync and not due:
            return
        from .timesync import sync

        self._resync_at = time.ticks_add(time.ticks_ms(), _RESYNC_MS)
        try:
            source = sync(self.store, clock, end, self.timeout_ms)
        except MTLSError as error:
            if not clock.believable:
                raise
            # Good enough to go on with, whatever the time source does: it is asked again.
            if not isinstance(error, (ClockNotSet, Unreachable)):
                self._note(error)
            source = clock.source
        self._resync = False
        self._tell("clock", ("source", source), ("time", clock.require()))

    # Which identity

    def _use(self, identity):
        leaf = identity.certificate()
        self.active = identity.name
        self.not_before = leaf.not_before
        self.not_after = leaf.not_after
        self.clock.note_not_before(leaf.not_before)
        self._jitter = self._random_octet()
        self._confirmed = False
        self._handshake_refusals = 0
        self.session.close()
        return leaf

    def _drop(self):
        self.session.close()
        self.active = None

    def _reject(self):
        """The gateway refuses this leaf: go to the other slot, then to the IDevID."""
        self._rejected.add(self.active)
        self._drop()

    def _adopt(self):
        store = self.store
        pointer = store.current()
        order = recovery_order(pointer, store.slots(), False, self.clock.require())
        for name in order:
            if name in self._rejected:
                continue
            identity = store.identity(name)
            if name == pointer:
                self._use(identity)
                return
            if self._proven(identity):
                leaf = self._commit(identity)
                self._tell("recovered", ("slot", name), ("serial", "%x" % leaf.serial))
                return
        try:
            self._enrol()
        finally:
            self._rejected.clear()  # the gateway may think otherwise the next time

    def _prove(self, identity):
        """A handshake and a bounded wait, without a request: a request would be the switch."""
        session = Session(
            self._config["api_url"], self.store, identity, self.timeout_ms, self.clock
        )
        try:
            session.connect()
            session.wait_for_close(_PROVE_MS)
        finally:
            session.close()

    def _proven(self, identity):
        self.session.close()
        try:
            self._prove(identity)
        except Refused as refusal:
            self._rejected.add(identity.name)
            self._note(refusal)
            return False
        return True

    def _commit(self, identity):
        """The pointer is on flash before the first request goes out with the new leaf."""
        self.store.set_current(identity.name)
        if self.store.current() != identity.name:
            raise StoreDamaged("the pointer to slot %s did not reach the flash" % identity.name)
        leaf = self._use(identity)
        self._raise_floor()
        return leaf

    def _raise_floor(self):
        try:
            self.clock.raise_floor(now(), self.not_after)
        except MTLSError as error:  # a full flash; the leaf is good all the same
            self._note(error)

    # Enrolment and renewal

    def _pending(self, name, slots):
        """Return (key, its DER), on flash before its CSR is sent; a cut-short one is taken up."""
        if slots[name] == ():
            identity = self.store.identity(name)
            return identity.key(self.store.drbg()), identity.key_der
        key = self.store.fresh_key(name)
        self._rejected.discard(name)
        return key, key.to_der()

    def _request(self, name, call):
        """Run one EST call; a key that the server has seen before is replaced by a fresh one."""
        try:
            return call()
        except Refused as refusal:
            if refusal.type == _KEY_REUSED:
                self.store.fresh_key(name)
            raise

    def _enrol(self):
        store = self.store
        idevid = store.identity("idevid")
        if idevid is not None and not idevid.cert_der:
            idevid = None
        token = self._token(idevid)
        if token is not None:
            try:
                self._enrol_by(token, None)
                return
            except Refused as refusal:
                if refusal.status not in (401, 403):
                    raise
                self._token_refused = True
                if idevid is None:
                    raise
                self._note(refusal)
        if idevid is None:
            self._token_refused = False  # asked again, but slowly
            raise NotEnrolled("no certificate, token or IDevID: provision this board")
        self._enrol_by(None, idevid)

    def _token(self, idevid):
        try:
            return None if self._token_refused else self.store.token()
        except ConfigError as error:
            if idevid is None:
                raise
            self._note(error)  # neither way in depends on the other
            return None

    def _enrol_by(self, token, idevid):
        self.session.close()
        make_room()
        from . import est

        config = self._config
        store = self.store
        slots = store.slots()
        pointer = store.current()
        name = spare_slot(None, pointer, slots)
        if token is not None and pointer is None and slots[name] is not None:
            slots[name] = ()  # the token is bound to this key: the same leaf comes again
        key, key_der = self._pending(name, slots)
        request = est.enrolment_request(key, config, hardware_id())
        spki, key = key.spki(), None  # what makes keys has to go before the handshake
        session = Session(config["enrol_url"], store, idevid, self.timeout_ms, self.clock)
        leaf_der = self._request(
            name,
            lambda: est.simpleenroll(session, request, spki, now(), config["device_id"], token),
        )
        identity = store.write_identity(name, key_der, leaf_der)
        self._finish(identity, "enrolled", ("by", "token" if token else "idevid"))

    def _renew(self):
        self.session.close()
        if not self.failures:  # once a leaf: a crystal drifts by minutes a year, and the floor too
            self._resync = True
            self._keep_time()
        store = self.store
        slots = store.slots()
        name = spare_slot(self.active, self.active, slots)
        facts = slots[name]
        if facts and facts[0] > self.not_before and name not in self._rejected:
            self._finish(store.identity(name), "renewed")  # issued, its proof cut short
            return
        make_room()
        from . import est

        fresh = slots[name] != ()  # else its leaf may have been issued long ago
        key, key_der = self._pending(name, slots)
        current = self._identity()
        request = est.renewal_request(key, current.certificate())
        spki, key = key.spki(), None
        session = Session(
            self._config["enrol_url"], store, current, self.timeout_ms, self.clock, self._watch_est
        )
        if len(store.anchors()) > 1:  # in a rollover: by which of them is the gateway verified?
            from .witness import Witness

            session.pins = Witness()

        def also():
            self._ask_cacerts(est, session)

        leaf_der = self._request(
            name, lambda: est.simplereenroll(session, request, spki, now(), also)
        )
        self._finish(store.write_identity(name, key_der, leaf_der), "renewed")
        if fresh:
            self._doubt_hint()
        if store.cacerts_are_new():
            from .rollover import follow

            facts = follow(store, now())
            if facts:
                self._tell("anchors", *facts)

    def _ask_cacerts(self, est, session):
        """On the renewal's own connection: nothing here may cost the leaf that was issued."""
        try:
            from .cacerts import ask

            ask(est, session, self.store)
        except MTLSError as error:
            self._note(error)
        except MemoryError:
            self._note(OutOfMemory("not enough heap for the CA certificates: free some"))

    def _doubt_hint(self):
        """A leaf that is due at once contradicts the clock: a lie would have us renew for ever."""
        verdict = renewal_plan(self.not_before, self.not_after, now(), self._jitter)[0]
        if verdict != "wait" and self.clock.accept_issued(self.not_before):
            self._tell("clock", ("source", self.clock.source), ("time", now()))

    def _finish(self, identity, event, *facts):
        try:
            self._prove(identity)
        except Refused:
            self._rejected.add(identity.name)
            raise
        leaf = self._commit(identity)
        self._renewal_wanted = False
        self._tell(event, ("serial", "%x" % leaf.serial), ("not_after", leaf.not_after), *facts)

    # What the gateway says to requests

    def _watch_est(self, error):
        if error is not None:  # a success there does not switch to the leaf
            self._watch(error)

    def _watch(self, error):
        if error is None:
            self._handshake_refusals = 0
            if not self._confirmed and self.active:
                self._confirm()
        elif isinstance(error, Untrusted) or error.type == _NOT_YET_VALID:
            self._resync = True
        elif about_the_leaf(error):
            self._reject()
        elif error.status == 0:
            self._handshake_refusals += 1
            if self._handshake_refusals >= _HANDSHAKE_REFUSALS:
                self._reject()

    def _confirm(self):
        """The first request with this leaf was answered: it is switched to, the token is spent."""
        self._raise_floor()
        try:
            self.store.forget_token()
        except FlashFull as error:
            self._note(error)
            return  # tried again with the next request
        except MTLSError as error:  # a damaged secret.json is no reason to lose an answer
            self._note(error)
        self._confirmed = True
