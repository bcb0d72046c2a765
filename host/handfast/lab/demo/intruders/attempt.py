"""An attempt as data: what is sent and, written down before it is made, what must come of it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Listener = Literal["api", "enrol"]
Tls = Literal["1.2", "1.3"]
By = Literal["process", "board"]

# Between the end of a leaf and the last moment at which it is sure to be taken for a good one.
_MARGIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and a private key, both DER, that an attempt presents as a pair.

    Attributes:
        name: unique in the attack; names the pair where it is remembered.
        ends: when the certificate stops being what it is here (unix seconds). What an attempt
            meets after that says nothing; a forgery is one for ever.
    """

    name: str
    certificate: bytes
    key: bytes
    ends: float = math.inf

    def __repr__(self) -> str:
        return f"Credential({self.name!r})"


@dataclass(frozen=True, slots=True)
class Names:
    """Whom a certificate names: its subject (RFC 4514) and its subject alternative names."""

    subject: str
    alternative: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come of an attempt.

    Attributes:
        reason: the slug in the gateway's log; empty where the attempt is to succeed.
        device_id: whom the gateway's log must name for a success; empty where it names nobody.
        issued: the names that an issued certificate must have, whatever was asked for.
    """

    reason: str = ""
    device_id: str = ""
    issued: Names | None = None

    @property
    def accept(self) -> bool:
        """Whether the attempt is to succeed."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request over one connection of its own.

    Attributes:
        headers: no text shows them: a token may be among them.
        by: whether an attacker's process makes it, or a simulated board.
        keeps: the name under which the TLS session is kept for a later attempt.
        resumes: the name of a kept session to resume.
        turn: whose it is, counted round the processes; who keeps a session also resumes it.
        number: unique in the attack; this and what follows is filled in when a plan is made.
    """

    listener: Listener
    method: str
    path: str
    expected: Expected
    credential: Credential | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = b""
    keeps: str = ""
    resumes: str = ""
    by: By = "process"
    turn: int = 0
    number: int = 0
    kind: str = ""
    tls: Tls = "1.2"

    @property
    def use_before(self) -> float:
        """Until when the expectation holds (unix seconds)."""
        return math.inf if self.credential is None else self.credential.ends - _MARGIN_S

    def order(self) -> str:
        """Return one line of JSON for an attacker: all that it sends, nothing of what we expect."""
        credential = self.credential
        return json.dumps(
            {
                "number": self.number,
                "listener": self.listener,
                "tls": self.tls,
                "method": self.method,
                "path": self.path,
                "headers": self.headers,
                "body": _text(self.body),
                "keeps": self.keeps,
                "resumes": self.resumes,
                "credential": credential
                and {
                    "name": credential.name,
                    "certificate": _text(credential.certificate),
                    "key": _text(credential.key),
                },
            }
        )

    @classmethod
    def from_order(cls, line: str) -> Attempt:
        """Read what :meth:`order` wrote."""
        fields: dict[str, Any] = json.loads(line)
        pair = fields.pop("credential")
        credential = pair and Credential(
            pair["name"], _bytes(pair["certificate"]), _bytes(pair["key"])
        )
        fields["headers"] = tuple((name, value) for name, value in fields["headers"])
        fields["body"] = _bytes(fields["body"])
        return cls(**fields, credential=credential, expected=Expected())

    def declaration(self) -> str:
        """Return one line of JSON for the record: what is tried and expected, and no secret."""
        return json.dumps(
            {
                "number": self.number,
                "kind": self.kind,
                "by": self.by,
                "tls": self.tls,
                "request": f"{self.listener} {self.method} {self.path}",
                "expected": "accept" if self.expected.accept else self.expected.reason,
                "device_id": self.expected.device_id,
                "issued": self.expected.issued and asdict(self.expected.issued),
            }
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt met.

    Attributes:
        peer: ``host:port`` of the attempt's own end, as the gateway logs it.
        status: of HTTP, ``None`` when the connection ended without one.
        problem: slug of the problem document (RFC 9457), if one came.
        error: what ended the connection, in the words of TLS or the system.
        resumed: whether the TLS session was a resumed one.
        issued: whom the certificate names that EST gave, if it gave one for the request's key.
        at: when it was over (unix seconds).
    """

    number: int
    peer: str
    status: int | None = None
    problem: str = ""
    error: str = ""
    resumed: bool = False
    issued: Names | None = None
    at: float = 0.0

    def line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Answer:
        """Read what :meth:`line` wrote."""
        fields: dict[str, Any] = json.loads(line)
        issued: Mapping[str, Any] | None = fields.pop("issued")
        names = issued and Names(issued["subject"], tuple(issued["alternative"]))
        return cls(**fields, issued=names or None)

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.problem}".rstrip() if self.status else self.error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
