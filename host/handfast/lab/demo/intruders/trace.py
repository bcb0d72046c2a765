"""What attempts leave behind at the gateway: rows, certificates and tokens, against the plan.

An answer and a log line say what the gateway said. Whether it also did what it refused to do shows
only in what it has stored.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from handfast.lab.demo.intruders.attempt import Attempt, Credential
from handfast.lab.demo.intruders.devices import Device, token_in
from handfast.lab.demo.intruders.judge import Finding, Outcome
from handfast.lab.demo.intruders.requests import BOOT_ID, TELEMETRY

# One stored thing of a device: what it is, and which one.
Fact = tuple[str, str]
_ROW, _LEAF, _IDEVID = "telemetry", "ldevid", "idevid"
_UNUSED, _BOUND, _USED = "unused token", "bound token", "used token"
_MOST_TOLD_CHARACTERS = 24


@dataclass(frozen=True, slots=True)
class Trace:
    """What a device must have at the end, and what it may have besides.

    ``may`` is for good calls that were not answered: they can have been served all the same.
    """

    must: Counter[Fact]
    may: Counter[Fact]

    def wrong_in(self, stored: Counter[Fact]) -> tuple[list[Fact], list[Fact]]:
        """Return what is stored and should not be, and what should be and is not."""
        excess = stored - self.must - self.may
        return sorted(excess.elements()), sorted((self.must - stored).elements())


def expected_trace(device: Device, findings: Iterable[Finding]) -> Trace:
    """Return what is left of setting a device up, and of the attempts that were to succeed as it.

    Args:
        device: as it was before the attempts.
        findings: of all attempts that were made.
    """
    must = Counter(
        [
            (_LEAF, _key_of(device.superseded)),
            (_LEAF, _key_of(device.leaf)),
            (_IDEVID, _key_of(device.idevid)),
            (_USED, _sha256(device.used_token)),
        ]
    )
    may: Counter[Fact] = Counter()
    brought: dict[str, bool] = {}  # tokens, and whether it is known that they were taken
    for finding in findings:
        expected, left = finding.attempt.expected, left_by(finding.attempt)
        if not expected.accept or expected.device_id != device.device_id:
            continue
        served = finding.outcome is Outcome.TRUE_ACCEPT
        (must if served else may).update(left)
        if token := token_in(finding.attempt.headers):
            brought[token] = brought.get(token, False) or served
    for token in device.tokens:
        states = [(_UNUSED, _sha256(token)), (_BOUND, _sha256(token))]
        if token not in brought:
            must[states[0]] += 1
        elif brought[token]:
            must[states[1]] += 1
        else:
            may.update(states)
    return Trace(must, may)


def stored_trace(document: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Counter[Fact]:
    """Return what is stored of a device.

    Args:
        document: the device, its certificates and its tokens, as the admin interface tells.
        rows: its telemetry.
    """
    stored = Counter((_ROW, f"{row['boot_id']} {row['seq']}") for row in rows)
    stored.update((row["kind"], row["spki_sha256"]) for row in document["certificates"])
    stored.update((_state_of(token), token["sha256"]) for token in document["tokens"])
    return stored


def left_by(attempt: Attempt) -> list[Fact]:
    """Return what an attempt leaves, besides a bound token, if the gateway does as it asks."""
    if attempt.path.endswith(TELEMETRY):
        return [(_ROW, f"{BOOT_ID} {attempt.number}")]
    if attempt.path.endswith("enroll"):
        request = x509.load_der_x509_csr(base64.b64decode(attempt.body))
        return [(_LEAF, _spki_sha256(request.public_key()))]
    return []


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is stored and should not be, or that should be and is not.

    Attributes:
        device_id: whose it is.
        what: the thing, and whether it is there.
        which: which of its kind.
        sender: the kind of attempt that sent it; empty if no attempt did.
    """

    device_id: str
    what: str
    which: str
    sender: str = ""

    def __str__(self) -> str:
        sender = f" of {self.sender}" if self.sender else ""
        return f"{self.device_id} {self.what} {self.which[:_MOST_TOLD_CHARACTERS]}{sender}"


def trace_complaints(
    device: Device, findings: Sequence[Finding], stored: Counter[Fact]
) -> list[Complaint]:
    """Hold what is stored of a device against what should be."""
    excess, missing = expected_trace(device, findings).wrong_in(stored)
    senders: dict[Fact, str] = {}
    if excess:
        attempts = [finding.attempt for finding in findings]
        senders = {fact: a.kind for a in attempts for fact in left_by(a)}
    name = device.device_id
    return [
        *(Complaint(name, f"has {fact[0]}", fact[1], senders.get(fact, "")) for fact in excess),
        *(Complaint(name, f"has no {what}", which) for what, which in missing),
    ]


def _state_of(token: Mapping[str, Any]) -> str:
    if token["used"] is not None:
        return _USED
    return _BOUND if token["bound"] else _UNUSED


def _key_of(credential: Credential) -> str:
    return _spki_sha256(x509.load_der_x509_certificate(credential.certificate).public_key())


def _spki_sha256(key: PublicKeyTypes) -> str:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
