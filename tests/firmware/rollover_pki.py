"""The CAs of a root and of its successor, as they are in a rollover, and what others would have."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from device_pki import SERVER_AUTH, Plan, encoded, rsa_key
from est_peer import CLIENT_AUTH

NOW = datetime.now(UTC)
T = int(NOW.timestamp())
OLD, NEW, NEWER = (NOW - timedelta(days=days) for days in (300, 2, 1))
END = NOW + timedelta(days=900)


def plan(name: str, key: str, signer: str, begin: datetime, **changes: object) -> Plan:
    """A CA of the names that all of its kind have; ``key`` and ``signer`` name keys."""
    root = "root" if name != "stranger" else "stranger"
    made = Plan(name, rsa_key(key), root, rsa_key(signer), ca=True, not_before=begin, not_after=END)
    return replace(made, **changes)


@cache
def pki() -> dict[str, x509.Certificate]:
    """The CAs of one root and of its successor, and what others would like to be taken for them."""
    plans = {
        "root": plan("root", "root", "root", OLD, path_length=1),
        "new-root": plan("root", "root2", "root2", NEW, path_length=1),
        "new-with-old": plan("root", "root2", "root", NEW, path_length=1),
        "old-with-new": plan("root", "root", "root2", NEW, path_length=1),
        "server": plan("server", "server", "root", OLD, eku=[SERVER_AUTH]),
        "server2": plan("server", "server2", "root", NEW, eku=[SERVER_AUTH]),
        "server3": plan("server", "server3", "root2", NEWER, eku=[SERVER_AUTH]),
        "device": plan("device", "device", "root", OLD, eku=[CLIENT_AUTH]),
        # What is no anchor, whoever publishes it.
        "foreign": plan("server", "other", "stranger", NEWER, eku=[SERVER_AUTH]),
        "self-made": plan("root", "other", "other", NEWER, path_length=1),
        "self-made-link": plan("root", "other", "stranger", NEWER, path_length=1),
        "server-as-link": plan("root", "other", "server", NEWER, path_length=1),
        "leaf": plan("server", "leaf", "root", NEWER, ca=False, eku=[SERVER_AUTH]),
        "over": plan("server", "other", "root", OLD, not_after=NEW, eku=[SERVER_AUTH]),
    }
    return {name: one.make() for name, one in plans.items()}


def der(*names: str) -> list[bytes]:
    return [encoded(pki()[name]) for name in names]


def sha(name: str) -> bytes:
    return hashlib.sha256(encoded(pki()[name])).digest()
