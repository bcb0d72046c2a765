"""What handlers need of a request: who is there, a bounded body, JSON; and what is logged of it."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.types import Scope

from handfast.gateway.authorise import Allow, Purpose, Refuse, RequestFacts, authorise
from handfast.gateway.context import Gateway
from handfast.gateway.enrolment import switch
from handfast.gateway.problems import Problem

MAX_BODY_BYTES = 65_536
_MOST_NESTED = 32
_NOTES = "handfast.notes"


def notes(scope: Scope) -> dict[str, Any]:
    """Return what is to be logged of this request besides the usual."""
    found: dict[str, Any] = scope.setdefault(_NOTES, {})
    return found


def peer_of(scope: Scope) -> Any:
    """Return the connection's ConnectionInfo, as the server's scope extension gives it."""
    return scope["extensions"]["handfast"]["peer"]


def certificate_sha256(scope: Scope) -> bytes | None:
    """Return the SHA-256 of the leaf that the peer proved to hold."""
    digest: bytes | None = peer_of(scope).client_certificate_sha256
    return digest


def decide(scope: Scope, gateway: Gateway, facts: RequestFacts) -> Allow:
    """Authorise a request with a certificate, and tie its connection to the device.

    Raises:
        Problem: refused.
    """
    decision = authorise(
        facts,
        certificate_sha256(scope),
        now=gateway.registry.clock(),
        view=gateway.registry.view,
        overlap_s=gateway.overlap_s,
    )
    device_id = decision.device_id if isinstance(decision, Refuse) else decision.device.device_id
    if device_id is not None:
        note_device(scope, device_id)
    if isinstance(decision, Refuse):
        raise Problem(decision.slug)
    return decision


def note_device(scope: Scope, device_id: str) -> None:
    """Tie the connection to a device: for the log, and so that a revocation closes it."""
    notes(scope)["device_id"] = device_id
    peer_of(scope).device_id = device_id


async def authorised(request: Request, gateway: Gateway) -> Allow:
    """Authorise an API request; a certificate's first one makes it the device's current one.

    Raises:
        Problem: refused.
    """
    facts = RequestFacts(Purpose.API, request.path_params.get("device_id"))
    allowed = decide(request.scope, gateway, facts)
    if allowed.switch:
        sha256 = allowed.certificate.sha256
        await gateway.registry.write(lambda tx: switch(tx, certificate_sha256=sha256))
        # The switch waited for the disk: a revocation may have come first.
        allowed = decide(request.scope, gateway, facts)
    gateway.registry.saw(allowed.device.device_id)
    return allowed


def require_content_type(request: Request, wanted: str) -> None:
    """Refuse a body of another media type; parameters do not matter."""
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given != wanted:
        raise Problem("content-type", f"Send the body as {wanted}.")


async def read_body(request: Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the whole body.

    Raises:
        Problem: ``body-too-large``.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Problem("body-too-large", f"The body is larger than {limit} bytes.")
    return bytes(body)


async def read_json(request: Request, *, limit: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Return the body, a JSON object that can be written as JSON again (RFC 8259).

    What passes here is stored and shown to others later: a number that overflows, half of a
    surrogate pair or endless nesting would fail there, at the expense of who reads it.

    Raises:
        Problem: ``body-too-large`` or ``bad-json``.
    """
    body = await read_body(request, limit=limit)
    try:
        document = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
        if not isinstance(document, dict) or not _is_plain(document):
            raise Problem("bad-json")
    except (ValueError, RecursionError):
        raise Problem("bad-json") from None
    return document


def _is_plain(document: object) -> bool:
    """Tell whether nesting is bounded and all text is Unicode; raises UnicodeError otherwise."""
    level = [document]
    for _ in range(_MOST_NESTED):
        deeper: list[object] = []
        for value in level:
            if isinstance(value, str):
                value.encode()
            elif isinstance(value, dict):
                deeper += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                deeper += value
        if not deeper:
            return True
        level = deeper
    return False


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
