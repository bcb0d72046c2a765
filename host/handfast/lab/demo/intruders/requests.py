"""What attempts are put together from: calls and enrolments, by whom and with what."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from handfast.lab.demo.intruders.attempt import Attempt, Credential, Expected
from handfast.lab.demo.intruders.devices import Device, basic, est_request
from handfast.lab.demo.intruders.forge import Forgeries, csr

Item = TypeVar("Item")
Headers = Sequence[tuple[str, str]]

TELEMETRY = "/telemetry"
BOOT_ID = "intruders"
# Of the API's paths, as api_call() knows them, those that name the device.
OWN_PATHS = slice(2, None)


@dataclass(frozen=True, slots=True)
class Material:
    """What a wave of attempts is made of; every device is one of its own.

    Attributes:
        healthy: a device that calls as it may.
        neighbour: another one.
        overdue: its superseded leaf is past the overlap.
        revoked: it is, when the attempts are made.
        suspended: it is, when the attempts are made.
        forged: what an intruder made, in the name of ``healthy``.
    """

    healthy: Device
    neighbour: Device
    overdue: Device
    revoked: Device
    suspended: Device
    forged: Forgeries

    @property
    def devices(self) -> tuple[Device, ...]:
        """All of them."""
        return (self.healthy, self.neighbour, self.overdue, self.revoked, self.suspended)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of attempt.

    Attributes:
        promise: what it belongs to; one check in the report.
        name: which of the promise's kinds.
        make: gives a wave's ``n``-th attempt.
        before: whether it is made before devices are revoked and suspended.
        needs: the kind whose ``n``-th attempt keeps the session that this one's resumes.
    """

    promise: str
    name: str
    make: Callable[[Material, int], Attempt]
    before: bool = False
    needs: Kind | None = None

    @property
    def title(self) -> str:
        """Return what attempts call it."""
        return f"{self.promise}: {self.name}"


def by_turns(items: Sequence[Item], n: int) -> Item:
    """Return the next of ``items`` for every other ``n``: TLS versions alternate with each."""
    return items[n // 2 % len(items)]


def api_call(
    of: Device,
    n: int,
    expected: Expected,
    credential: Credential | None = None,
    *,
    headers: Headers = (),
    paths: slice = slice(None),
) -> Attempt:
    """Return a call of the API, for a path that any device has or one that only ``of`` has."""
    own = f"/v1/devices/{of.device_id}"
    calls: tuple[tuple[str, str], ...] = (
        ("GET", "/v1/ping"),
        ("GET", "/v1/devices/me"),
        ("GET", f"{own}/config"),
        ("POST", f"{own}{TELEMETRY}"),
    )
    method, path = by_turns(calls[paths], n)
    sent = (*headers, ("content-type", "application/json")) if method == "POST" else tuple(headers)
    return Attempt("api", method, path, expected, credential, sent)


def with_row(attempt: Attempt) -> Attempt:
    """Return an attempt with what its path wants: telemetry names the attempt that sent it."""
    if not attempt.path.endswith(TELEMETRY):
        return attempt
    row = {"boot_id": BOOT_ID, "seq": attempt.number, "values": {}}
    return replace(attempt, body=json.dumps(row).encode())


def enrolment(
    of: Device, expected: Expected, credential: Credential | None = None, *, headers: Headers = ()
) -> Attempt:
    """Return an ordinary enrolment, by IDevID or by a token in ``headers``."""
    request = csr(of.device_id)
    return est_request("simpleenroll", request, expected, credential=credential, headers=headers)


def re_enrolment(
    of: Device, expected: Expected, credential: Credential | None = None, *, headers: Headers = ()
) -> Attempt:
    """Return an ordinary re-enrolment."""
    request = csr(of.device_id)
    return est_request("simplereenroll", request, expected, credential=credential, headers=headers)


def by_any_way(
    device: Device, n: int, request: bytes, expected: Expected, tokens: Sequence[str]
) -> Attempt:
    """Bring a request by leaf, by IDevID or by one of ``tokens``, in turn."""
    if n % 3 == 0:
        return est_request("simplereenroll", request, expected, credential=device.leaf)
    if n % 3 == 1:
        return est_request("simpleenroll", request, expected, credential=device.idevid)
    token = basic(device.device_id, tokens[n // 3 % len(tokens)])
    return est_request("simpleenroll", request, expected, headers=(token,))


def served_as(device: Device) -> Expected:
    """Expect to be served as this device."""
    return Expected(device_id=device.device_id)


def gets_its_names(device: Device) -> Expected:
    """Expect a certificate that names this device, whatever was asked for."""
    return Expected(device_id=device.device_id, issued=device.names)
