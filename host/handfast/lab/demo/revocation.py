"""How long a revoked device still gets answers on a connection that it has open."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from handfast.errors import CheckFailed
from handfast.lab.demo.est_client import client_context, enrol_new
from handfast.lab.demo.expect import expect
from handfast.lab.demo.keysearch import Identity
from handfast.lab.demo.report import Report, spread
from handfast.lab.demo.scene import Scene, Tell
from handfast.lab.parallel import in_parallel
from handfast.lab.problem import slug_of

_DEVICES = 24
# More would measure how two cores are shared, and leaves of seconds would end meanwhile.
_AT_ONCE = 4
_ANSWERED_FIRST = 20
_WITHIN_S = 30.0
# For the end of a connection that is closed already to cross the loopback, on busy cores.
_CLOSED_WITHIN_S = 1.0
# Of different devices: one whose leaf ends meanwhile, on a busy machine, says nothing.
_TRIES = 3
_PING = "/v1/ping"
_REFUSED = "device-revoked"


@dataclass(frozen=True, slots=True)
class _Revoked:
    """What one device met: ms from before ``revoke`` to its first refusal, and what that was.

    ``too_late`` devices before it count for nothing: their leaves had ended meanwhile.
    """

    refused_after_ms: float
    answered: int
    closed: bool
    too_late: int = 0


def revocation(scene: Scene, report: Report, tell: Tell) -> None:
    """Revoke devices that never stop asking; measure until the first refusal of each.

    Each has two connections open: one on which the next request follows each answer, and an idle
    one. No request sent after ``revoke`` returned is answered, and both are closed.
    """
    tell(f"{_DEVICES} devices ask without a pause, and are revoked")
    with report.check("revocation: an open connection is refused at once") as seen:
        names = [f"revoked-{number}" for number in range(1, _DEVICES + 1)]
        outcomes = in_parallel(partial(_revoke_one, scene), names, at_once=_AT_ONCE)
        report.totals["revocation_ms"] = spread([o.refused_after_ms for o in outcomes])
        seen.append(_summary(outcomes))
    tell(f"{_DEVICES} devices revoked")


def _summary(outcomes: Sequence[_Revoked]) -> str:
    took = spread([outcome.refused_after_ms for outcome in outcomes])
    closed = sum(outcome.closed for outcome in outcomes)
    answered = sum(outcome.answered for outcome in outcomes)
    too_late = sum(outcome.too_late for outcome in outcomes)
    more = f"; {too_late} more count for nothing, their leaves ended meanwhile" if too_late else ""
    return (
        f"{len(outcomes)} devices, {answered} requests answered before, none sent after; first "
        f"refusal {took['median']} ms (at most {took['max']}) after revoke was called: "
        f"{closed} closed, {len(outcomes) - closed} answered 403; idle connections closed, "
        f"back in: 403{more}"
    )


def _revoke_one(scene: Scene, name: str) -> _Revoked:
    """Return what a device met while its leaf was good; what it met later may be the leaf's end.

    Raises:
        CheckFailed: a promise was broken, or no try was over before its leaf.
    """
    complaint = None
    for number in range(_TRIES):
        device = f"{name}-{number + 1}"
        identity = enrol_new(scene, device)
        outcome, complaint = _try_to_revoke(scene, device, identity)
        if datetime.now(UTC) < identity.certificate.not_valid_after_utc:
            if complaint is not None:
                raise complaint
            if outcome is not None:
                return replace(outcome, too_late=number)
    ended = f"{name}: {_TRIES} leaves of {scene.lifetime_s} s ended before it was done"
    raise CheckFailed(f"{ended}; {complaint}" if complaint else ended)


def _try_to_revoke(
    scene: Scene, name: str, identity: Identity
) -> tuple[_Revoked | None, CheckFailed | None]:
    try:
        return _revoke_while_it_asks(scene, name, identity), None
    except CheckFailed as failed:
        return None, failed
    except (OSError, http.client.HTTPException) as error:
        return None, CheckFailed(f"{name} was not let in, or without an answer: {error}")


def _revoke_while_it_asks(scene: Scene, name: str, identity: Identity) -> _Revoked:
    context = client_context(scene.certificates()["root"], identity, scratch=scene.folder)
    url = scene.gateway.urls["api"]
    with _Connection(url, context) as idle, _Connection(url, context) as busy:
        expect(idle.ping() == http.client.OK, f"{name} was not let in")
        asking = _Asking(busy)
        asking.start()
        asking.wait_for_answers(_ANSWERED_FIRST)
        called = time.monotonic()
        scene.admin.revoke(name)
        returned = time.monotonic()
        refusal = asking.wait_for_refusal()
        expect(refusal.at >= called, f"{name} was refused before it was revoked: {refusal.what}")
        late = [sent for sent in asking.answered if sent > returned]
        expect(not late, f"{name} was answered {len(late)} times after revoke had returned")
        expect(refusal.slug in (None, _REFUSED), f"{name} was refused for {refusal.what}")
        expect(idle.is_closed(), f"{name}'s idle connection is still open")
        expect(busy.is_closed(), f"{name}'s busy connection is still open")
    _expect_no_way_back(url, context, name)
    took_ms = (refusal.at - called) * 1000
    return _Revoked(took_ms, len(asking.answered), refusal.slug is None)


def _expect_no_way_back(url: str, context: ssl.SSLContext, name: str) -> None:
    with _Connection(url, context) as again:
        status = again.ping()
        expect(status == http.client.FORBIDDEN, f"{name} connects again and gets {status}")
        expect(again.slug == _REFUSED, f"{name} connects again and gets {again.slug}")


class _Connection:
    """One TLS connection to the API that is never replaced by another."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError(f"{url} names no host")
        self._http = http.client.HTTPSConnection(
            parts.hostname, parts.port, context=context, timeout=_WITHIN_S
        )
        self.slug = ""

    def ping(self) -> int:
        """Ask, and return the status of the answer; ``slug`` is then the problem's name, or "".

        Raises:
            OSError, http.client.HTTPException: the connection was closed instead.
        """
        self._http.request("GET", _PING)
        answer = self._http.getresponse()
        self.slug = slug_of(answer.read())
        return answer.status

    def is_closed(self) -> bool:
        """Tell whether the other side has ended the connection, or does so within a second."""
        sock = self._http.sock
        if sock is None:  # http.client has found out by itself
            return True
        sock.settimeout(_CLOSED_WITHIN_S)
        try:
            return not sock.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    def __enter__(self) -> Self:
        self._http.connect()
        self._http.auto_open = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """The first request that was not served; ``slug`` is ``None`` where the connection ended."""

    at: float
    slug: str | None
    what: str


@dataclass(slots=True)
class _Progress:
    answered: list[float] = field(default_factory=list)
    refusal: _Refusal | None = None


class _Asking(threading.Thread):
    """Sends the next request as soon as one is answered, until one is not.

    ``answered`` has when each answered request was sent.
    """

    def __init__(self, connection: _Connection) -> None:
        super().__init__(name="asking without a pause", daemon=True)
        self._connection = connection
        self._changed = threading.Condition()
        self._progress = _Progress()

    @property
    def answered(self) -> list[float]:
        with self._changed:
            return list(self._progress.answered)

    def run(self) -> None:
        deadline = time.monotonic() + 2 * _WITHIN_S
        while time.monotonic() < deadline:
            sent = time.monotonic()
            refusal = self._ask()
            with self._changed:
                if refusal is None:
                    self._progress.answered.append(sent)
                self._progress.refusal = refusal
                self._changed.notify_all()
            if refusal is not None:
                return

    def _ask(self) -> _Refusal | None:
        try:
            status = self._connection.ping()
        except (OSError, http.client.HTTPException) as error:
            return _Refusal(time.monotonic(), None, f"{type(error).__name__}: {error}")
        if status == http.client.OK:
            return None
        slug = self._connection.slug
        return _Refusal(time.monotonic(), slug, f"{status} {slug}")

    def wait_for_answers(self, count: int) -> None:
        """Return when that many requests have been answered."""
        progress = self._progress
        with self._changed:
            ready = self._changed.wait_for(
                lambda: len(progress.answered) >= count or progress.refusal, _WITHIN_S
            )
            if progress.refusal is not None:
                raise CheckFailed(f"refused before it was revoked: {progress.refusal.what}")
        expect(bool(ready), f"{count} requests were not answered within {_WITHIN_S:g} s")

    def wait_for_refusal(self) -> _Refusal:
        """Return the refusal that ended it."""
        with self._changed:
            self._changed.wait_for(lambda: self._progress.refusal is not None, _WITHIN_S)
            if self._progress.refusal is None:
                raise CheckFailed(f"still answered {_WITHIN_S:g} s after revoke")
            return self._progress.refusal
