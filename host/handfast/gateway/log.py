"""The gateway's log: one event a line, as JSON in a file of the state folder and on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

_MOST_BYTES = 64 * 1024 * 1024
_KEPT_FILES = 4


class _OwnerOnlyFile(RotatingFileHandler):
    """A rotated log that nobody but its owner may read (0600)."""

    def _open(self) -> Any:
        os.close(os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        return super()._open()


def open_log(path: Path) -> Any:
    """Return a structlog logger that writes to ``path`` and to stderr.

    On a terminal stderr gets lines for people, otherwise JSON as well.
    """
    before: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _event_first,
    ]
    as_json = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ]
    )
    for_people = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # Quoted: what peers send must not reach the terminal as control characters.
            structlog.dev.ConsoleRenderer(repr_native_str=True),
        ]
    )
    file = _OwnerOnlyFile(path, maxBytes=_MOST_BYTES, backupCount=_KEPT_FILES, encoding="utf-8")
    file.setFormatter(as_json)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(for_people if sys.stderr.isatty() else as_json)
    logger = logging.Logger("handfast.gateway", logging.INFO)
    logger.addHandler(file)
    logger.addHandler(terminal)
    return structlog.wrap_logger(
        logger,
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def close_log(log: Any) -> None:
    """Close the log's file."""
    logger = log._logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def _event_first(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Put what people look for at the beginning of the line."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return {**first, **event}
