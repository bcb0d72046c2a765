# Handfast mTLS for MicroPython: keeps time and a valid identity, and survives what comes
# MIT license; Copyright (c) 2026 the Handfast authors
"""Call `step()` from the application's loop; it returns the ms until it wants to be called again.
For asyncio there is mtls.aio.Agent, with `await run()`.

Requests go through `agent.session`: it presents the current leaf, and the agent closes it before
opening a TLS session of its own, so that there is never more than one.
"""

import sys
import time

from micropython import const

from .clock import Clock
from .client import Session
from .errors import (
    FlashFull,
    MTLSError,
    NotEnrolled,
    OutOfMemory,
    Untrusted,
    console_facts,
)
from .issuance import enrol, renew
from .plan import backoff_ms, pause_ms, renewal_plan
from .proof import raise_floor, recover
from .timekeeping import keep_time
from .utc import now

_MAX_WAIT_MS = const(15000)
_HANDSHAKE_REFUSALS = const(3)
_ANY_HEAP = const(3)  # the fourth of four attempts is made with any
_FIRST_ASK_MS = const(15000)
_PREFIX = const("urn:handfast:error:")
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
    "refused" and "error"; facts are (key, value) pairs without secrets. It is called from within
    `step()`, and from within a request when the gateway says no: it must not call either, and what
    it raises is printed."""

    session_class = Session
    _resync_ms = 30000  # until the time is asked for again
    prove_ms = 300  # how long a fresh leaf's connection is watched for a refusal

    def __init__(self, store, clock=None, on_event=None, timeout_ms=10000):
        self.store = store
        self.clock = clock or Clock(store)
        self.active = None  # "a" or "b", once its leaf may be used
        self.not_before = self.not_after = 0
        self.timeout_ms = timeout_ms
        self.failures = 0
        self.last_error = None  # what the newest "error" or "refused" said
        self._on_event = on_event
        self._config = store.config()
        self._rejected = set()
        self._issued = None  # the slot of the newest leaf that was issued since boot
        self._refused = 0  # how many leaves in a row were, before that one has worked
        self._handshake_refusals = 0
        self._confirmed = False
        self._token_refused = False
        self._renewal_wanted = False
        self._resync = True
        self._resync_at = time.ticks_ms()
        self._jitter = 0
        self._suggested = None  # a moment to renew in the window that the gateway suggests
        self._issued_at = time.ticks_add(self._resync_at, -_MAX_WAIT_MS)
        self._ask_at = None  # when to ask for a window; None for never
        self.session = self.session_class(
            self._config["api_url"],
            store,
            identity=self._identity,
            timeout_ms=timeout_ms,
            clock=self.clock,
            watch=self._watch,
        )
        store.sweep()
        for not_before in store.issued():
            self.clock.note_not_before(not_before)

    def _tell(self, event, *facts):
        if self._on_event is not None:
            try:
                self._on_event(event, facts)
            except Exception as error:  # the application's own: it must not cost the identity
                sys.print_exception(error)

    def _identity(self):
        return self.store.identity(self.active) if self.active else None

    def renew(self):
        """Want a fresh key and leaf from the next `step()` on, however young the present one is.

        It stands until one is in use; for a key that may have been seen, or a drill.
        """
        self._renewal_wanted = True

    def status(self):
        """Return a dict for a console or a report, without secrets: see status.py."""
        from .status import status

        return status(self)

    def step(self):
        """Do what is due, and tell of what failed. Returns ms until the next call."""
        try:
            wait_ms = self._advance()
            if not self._refused:  # to have a leaf that never works is no success
                self.failures = 0
            return wait_ms
        except Exception as error:  # whatever it is, a board that nobody watches has to go on
            failure = error
        self._note(failure)
        self.failures += 1
        left_s = self.not_after - now() if self.active else 0
        asked_s = getattr(failure, "retry_after_s", 0)
        return backoff_ms(self.failures, left_s, self._random_octet(), asked_s)

    def _random_octet(self):
        try:
            return self.store.drbg().generate(1)[0]
        except Exception:
            return 255

    def _note(self, error):
        if isinstance(error, MemoryError):
            error = OutOfMemory("not enough heap: free some")
        if isinstance(error, Untrusted):
            self._resync = True  # a wrong clock is the likeliest reason
        event, facts = console_facts(error)
        self.last_error = facts
        self._tell(event, *facts)

    def _advance(self):
        self.store.drbg()  # with stuck entropy nothing goes out at all
        keep_time(self)
        if self.active is None:
            if not recover(self):
                wait_ms = self._pause_ms()
                if wait_ms:
                    return wait_ms
                enrol(self)
        now_s = self.clock.require()
        verdict, seconds = renewal_plan(
            self.not_before, self.not_after, now_s, self._jitter, self._suggested
        )
        if verdict == "lost":
            self._note(NotEnrolled("the certificate has ended before another was issued"))
            self._drop()
            return 0
        busy = self.session._response is not None  # somebody reads a body piece by piece
        if verdict == "renew" or self._renewal_wanted:
            wait_ms = self._pause_ms(busy, self.not_after - now_s)
            if not wait_ms or (self._renewal_wanted and not busy):
                renew(self)
                return 0
            return wait_ms
        # Never before the application has used the leaf itself: that is the switch to it.
        if self._confirmed and not busy and self._ask_at is not None:
            if time.ticks_diff(time.ticks_ms(), self._ask_at) >= 0:
                self._ask_window()
        return min(seconds * 1000, _MAX_WAIT_MS)

    def _pause_ms(self, busy=False, left_s=0):
        since_ms = time.ticks_diff(time.ticks_ms(), self._issued_at)
        life_s = self.not_after - self.not_before
        return pause_ms(since_ms, busy, left_s, life_s, self._refused, self._jitter)

    # A good moment

    def _make_room(self, more=0):
        """Leave the heap to a TLS session of our own, and see that there is enough of it."""
        self.session.close()
        if self.failures & 3 != _ANY_HEAP:
            from .room import require

            require(more)

    # Which identity

    def _use(self, identity):
        leaf = identity.certificate()
        self.active = identity.name
        self.not_before = leaf.not_before
        self.not_after = leaf.not_after
        self.clock.note_not_before(leaf.not_before)
        self._jitter = self._random_octet() << 8 | self._random_octet()
        self._suggested = None  # that was for the leaf before
        self._ask_at = time.ticks_add(time.ticks_ms(), _FIRST_ASK_MS)
        self._confirmed = False
        self._handshake_refusals = 0
        self.session.close()
        return leaf

    def _drop(self):
        self.session.close()
        self.active = None

    def _reject(self):
        """The gateway refuses this leaf: go to the other slot, then to the IDevID."""
        self._give_up(self.active)
        self._drop()

    def _give_up(self, name):
        self._rejected.add(name)
        self._refused += 1

    # When the gateway wants to be asked: in its own words, as in ACME's ARI (RFC 9773)

    def suggest(self, settings):
        """Heed `renewal_window` of what /v1/devices/{id}/config answered; without one, none."""
        from .window import moment

        window = settings.get("renewal_window") if isinstance(settings, dict) else None
        self._suggested = moment(window, self.not_before, self.not_after, self._jitter)

    def _ask_window(self):
        from . import window

        window.ask(self)

    # What the gateway says to requests

    def _watch_est(self, error):
        if error is not None:  # a success there does not switch to the leaf
            self._watch(error)

    def _watch(self, error):
        if error is None:
            self._handshake_refusals = 0
            if self._issued in (None, self.active):
                self._refused = 0
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
        raise_floor(self)
        try:
            self.store.forget_token()
        except FlashFull as error:
            self._note(error)
            return  # tried again with the next request
        except MTLSError as error:  # a damaged secret.json is no reason to lose an answer
            self._note(error)
        self._confirmed = True
