"""The ASGI application: one router a listener; every answer is logged, every error a problem."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handfast.gateway import admin, api, est, public
from handfast.gateway.authorise import Purpose, RequestFacts
from handfast.gateway.context import Gateway
from handfast.gateway.problems import Problem, problem_response
from handfast.gateway.requests import certificate_sha256, decide, notes, peer_of
from handfast.gateway.server.shared import where
from handfast.pki.csr import CsrError

Gate = Callable[[Scope, Gateway], None]


def build_app(gateway: Gateway) -> ASGIApp:
    """Return the application for all listeners; the scope says which one a request came by."""
    listeners: dict[str, tuple[Gate, Sequence[BaseRoute]]] = {
        "api": (_operational_only, api.routes(gateway)),
        "api-resume": (_operational_only, api.routes(gateway)),
        "enrol": (_anyone, est.routes(gateway)),
        "public": (_anyone, public.routes(gateway)),
        "admin": (admin.require_owner, admin.routes(gateway)),
        "admin-tls": (admin.require_administrator, admin.routes(gateway)),
    }
    # No redirects: their target would be made of whatever Host the peer sent.
    routers = {
        name: (gate, Router(routes, redirect_slashes=False))
        for name, (gate, routes) in listeners.items()
    }
    return _Application(gateway, routers)


def _operational_only(scope: Scope, gateway: Gateway) -> None:
    """Refuse before routing, so that a refused device learns nothing about paths."""
    decide(scope, gateway, RequestFacts(Purpose.API))


def _anyone(scope: Scope, gateway: Gateway) -> None:
    """The enrol listener's handlers decide, and the public listener is for anyone."""


class _Application:
    def __init__(self, gateway: Gateway, listeners: dict[str, tuple[Gate, Router]]) -> None:
        self._gateway = gateway
        self._listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        # Starlette's router then raises for an unknown path or method, and does not answer itself.
        scope["app"] = self
        answer = _Answer(send)
        gate, router = self._listeners[scope["extensions"]["handfast"]["listener"]]
        try:
            gate(scope, self._gateway)
            await router(scope, receive, answer)
        except ClientDisconnect:
            notes(scope)["slug"] = "disconnected"
        except Exception as error:
            problem = self._problem(error)
            notes(scope)["slug"] = problem.slug
            if answer.started:
                raise
            await problem_response(problem)(scope, receive, answer)
        except asyncio.CancelledError:  # a revocation closed the connection, or the gateway stops
            notes(scope)["slug"] = "aborted"
            raise
        finally:
            self._log(scope, answer.status, (time.perf_counter() - began) * 1000)

    def _problem(self, error: Exception) -> Problem:
        if isinstance(error, Problem):
            return error
        if isinstance(error, CsrError):
            return Problem(error.slug, str(error))
        if isinstance(error, HTTPException):
            allowed = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
            return Problem("method-not-allowed" if allowed else "not-found")
        self._gateway.log.error("request_failed", error=type(error).__name__, where=where(error))
        return Problem("internal")

    def _log(self, scope: Scope, status: int | None, elapsed_ms: float) -> None:
        digest = certificate_sha256(scope)
        fields: dict[str, Any] = {
            "listener": scope["extensions"]["handfast"]["listener"],
            "peer": peer_of(scope).address,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(elapsed_ms, 1),
            **notes(scope),
        }
        if digest is not None:
            fields["certificate"] = digest.hex()[:16]
        if peer_of(scope).resumed:
            fields["resumed"] = True
        self._gateway.log.info("request", **fields)


class _Answer:
    """Passes messages on.

    Attributes:
        started: whether the application began to answer.
        status: of an answer that went out whole; one that was cut off has served nobody.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun_with: int | None = None
        self.status: int | None = None

    @property
    def started(self) -> bool:
        return self._begun_with is not None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun_with = message["status"]
        try:
            await self._send(message)
        except OSError as error:  # ASGI 2.4: what a server raises when the peer has gone
            raise ClientDisconnect from error
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.status = self._begun_with
