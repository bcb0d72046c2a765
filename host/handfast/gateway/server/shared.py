"""What the connections of one listener share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from handfast.gateway.server.cycle import ASGIApp
from handfast.gateway.server.limits import Limits


class Log(Protocol):
    """What is needed of a structlog logger."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log what happens in good order."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log what an operator should look at."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log what should not happen."""


@dataclass(slots=True, eq=False)
class Shared:
    """One listener's application, limits and log.

    Attributes:
        scope: the listener's part of every ASGI scope.
        tasks: calls of the application that have not returned.
        stopping: no connection is kept for another request.
    """

    app: ASGIApp
    loop: asyncio.AbstractEventLoop
    limits: Limits
    log: Log
    scope: dict[str, Any]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    stopping: bool = False


def where(error: BaseException) -> list[str]:
    """Return the innermost frames of a traceback, without source lines or values.

    An error's text may quote what a client sent, and so a secret; where it happened may not.
    """
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-6:]
