"""Problem documents (RFC 9457) as those meet them who are refused."""

from __future__ import annotations

import json

from handfast.wire import PROBLEM_TYPE_PREFIX


def slug_of(body: bytes) -> str:
    """Return the stable name of a problem document; "" for anything else."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    kind = document.get("type") if isinstance(document, dict) else None
    return kind.removeprefix(PROBLEM_TYPE_PREFIX) if isinstance(kind, str) else ""
