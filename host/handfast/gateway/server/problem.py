"""The server's own answers: problem documents (RFC 9457) for what never reaches the application."""

from __future__ import annotations

import json

from handfast.wire import PROBLEM_TYPE_PREFIX

# slug -> (status, detail); the same slugs and statuses are in tests/vectors/errors.json.
PROBLEMS = {
    "bad-request": (400, "This is not a valid HTTP/1.1 request."),
    "request-timeout": (408, "The request did not arrive in time."),
    "body-too-large": (413, "The body is larger than this server takes."),
    "target-too-long": (414, "The request target is longer than this server takes."),
    "expectation-failed": (417, "Only Expect: 100-continue is supported."),
    "headers-too-large": (431, "The header fields are more or larger than this server takes."),
    "internal": (500, "The server failed; its log says why."),
    "unsupported-coding": (501, "Only the chunked transfer coding is supported."),
    "http-version": (505, "Only HTTP/1.1 and HTTP/1.0 are supported."),
}


class HttpRefusal(Exception):
    """A request that is answered by the server itself, and then the connection is closed.

    Args:
        slug: a key of :data:`PROBLEMS`.
        detail: what exactly was wrong; a standing text when left out. Never echoes the request.
    """

    def __init__(self, slug: str, detail: str = "") -> None:
        super().__init__(slug)
        self.slug = slug
        self.status, standing = PROBLEMS[slug]
        self.detail = detail or standing

    def document(self) -> bytes:
        """Return the JSON document."""
        return json.dumps(
            {
                "type": PROBLEM_TYPE_PREFIX + self.slug,
                "title": self.slug.replace("-", " ").capitalize(),
                "status": self.status,
                "detail": self.detail,
            }
        ).encode()
