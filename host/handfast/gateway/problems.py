"""Errors on the wire: RFC 9457 problem documents, each slug with its status and title."""

from __future__ import annotations

import json

from starlette.responses import Response

from handfast.wire import PROBLEM_TYPE_PREFIX

# The same table is in tests/vectors/errors.json; a test compares them.
STATUS = {
    "no-certificate": 401,
    "unknown-certificate": 401,
    "certificate-expired": 401,
    "certificate-not-yet-valid": 401,
    "certificate-superseded": 401,
    "certificate-revoked": 403,
    "wrong-certificate-kind": 403,
    "device-suspended": 403,
    "device-revoked": 403,
    "not-your-path": 403,
    "token-missing": 401,
    "token-unknown": 401,
    "token-expired": 401,
    "token-used": 403,
    "csr-malformed": 400,
    "csr-signature": 400,
    "csr-weak-key": 400,
    "key-reused": 400,
    "not-found": 404,
    "method-not-allowed": 405,
    "content-type": 415,
    "body-too-large": 413,
    "bad-json": 400,
    "bad-request": 400,
    "already-exists": 409,
    "other-hardware": 409,
    "no-rollover": 409,
    "rollover-failed": 500,
    "too-busy": 503,
    "not-durable": 507,
    "internal": 500,
}

# What happened and what to do next, for the reader of a log or a console.
_DETAIL = {
    "no-certificate": "This listener needs a client certificate; none was presented.",
    "unknown-certificate": "The registry does not know this certificate; enrol again.",
    "certificate-expired": "The certificate has expired; enrol again.",
    "certificate-not-yet-valid": "The certificate is not valid yet; check both clocks.",
    "certificate-superseded": "A newer certificate of this device is in use; present that one.",
    "certificate-revoked": "The certificate is revoked; enrol again.",
    "wrong-certificate-kind": "This kind of certificate is not good for this request.",
    "device-suspended": "The device is suspended; an administrator can resume it.",
    "device-revoked": "The device is revoked for good.",
    "not-your-path": "The path belongs to another device.",
    "token-missing": "Enrol with a one-time token (HTTP Basic) or with the factory certificate.",
    "token-unknown": "No such token for this device; have a new one created.",
    "token-expired": "The token has expired; have a new one created.",
    "token-used": "The token was used already; have a new one created.",
    "csr-malformed": "The body is not a base64 PKCS#10 request.",
    "csr-signature": "The request's own signature does not verify.",
    "csr-weak-key": "Only P-256 keys are accepted.",
    "key-reused": "The key has been certified before; make a fresh one.",
    "not-found": "There is nothing here.",
    "method-not-allowed": "This path has other methods.",
    "content-type": "The body has the wrong content type.",
    "body-too-large": "The body is larger than this path takes.",
    "bad-json": "The body is not the JSON object that this path takes.",
    "bad-request": "The request is not what this path takes.",
    "already-exists": "That exists already.",
    "other-hardware": "The device is tied to other hardware.",
    "no-rollover": "Nothing of that kind is being rolled over.",
    "rollover-failed": "The CAs could not be moved; nothing has changed.",
    "too-busy": "The gateway cannot do this now; try again later.",
    "not-durable": "This is in force but not stored; a restart undoes it.",
    "internal": "The gateway failed; its log says why.",
}


class Problem(Exception):
    """Ends a request with a problem document.

    Args:
        slug: stable name, a key of :data:`STATUS`.
        detail: what happened and what to do next; a standing text when left out.
    """

    def __init__(self, slug: str, detail: str = "") -> None:
        super().__init__(slug)
        self.slug = slug
        self.detail = detail or _DETAIL[slug]

    @property
    def status(self) -> int:
        """The HTTP status that goes with the slug."""
        return STATUS[self.slug]


def problem_response(problem: Problem) -> Response:
    """Return the RFC 9457 document, with a challenge where EST clients expect one."""
    document = {
        "type": PROBLEM_TYPE_PREFIX + problem.slug,
        "title": problem.slug.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
    }
    headers = {"cache-control": "no-store"}
    if problem.slug.startswith("token-") and problem.status == 401:
        headers["www-authenticate"] = 'Basic realm="handfast"'
    if problem.slug == "too-busy":
        headers["retry-after"] = "5"
    return Response(
        json.dumps(document).encode(),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )
