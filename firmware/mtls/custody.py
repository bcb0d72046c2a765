# Handfast mTLS for MicroPython: what is done with the store's files now and then
# MIT license; Copyright (c) 2026 the Handfast authors
"""The Store's methods that no call needs: it has them from here, by their names, when they are
asked for. Also what follows from the slots' state, as pure functions.
"""

import hashlib
import os

from micropython import const

from .errors import ConfigError, MTLSError, SecureElementError, StoreDamaged
from .identity import MAGIC, TEMPORARY, TOMBSTONE, Identity

_SEED_BYTES = const(32)


def pack_identity(key_der, cert_der=b""):
    """Return the slot file: magic, key, leaf (empty while it is not issued), SHA-256."""
    body = b"".join(
        (
            MAGIC,
            len(key_der).to_bytes(2, "big"),
            key_der,
            len(cert_der).to_bytes(2, "big"),
            cert_der,
        )
    )
    return body + hashlib.sha256(body).digest()


def recovery_order(pointer, slots, idevid, now):
    """Say which identities to try, in order, from what is on flash (DESIGN 4.5). Pure.

    ``pointer`` is "a", "b" or None; ``slots`` maps "a" and "b" to None (absent or damaged), () (a
    key without a leaf) or (not_before, not_after). The newest leaf comes first: newer than the
    pointer's it is a successor whose proof was cut short. An expired leaf is left out.
    """
    usable = [name for name in ("a", "b") if slots.get(name) and now < slots[name][1]]
    usable.sort(key=lambda name: (-slots[name][0], name != pointer))
    return usable + (["idevid"] if idevid else [])


def spare_slot(active, pointer, slots):
    """Say which slot the next key goes to: never the active one, and not the pointer's if free."""
    if active:
        return "b" if active == "a" else "a"
    for name in ("a", "b"):
        if slots.get(name) == ():
            return name
    if pointer is None and not slots.get("a"):
        return "b" if slots.get("b") else "a"  # a leaf that was never in use is taken up
    return "b" if pointer == "a" else "a"


def hardware_id():
    """Return the chip's own id in hex: the serialNumber attribute of our names."""
    import binascii
    import machine

    return binascii.hexlify(machine.unique_id()).decode()


def forget(path):
    """Remove one file."""
    try:
        os.remove(path)
    except OSError as error:
        raise StoreDamaged("cannot remove " + path, error.errno)


def sweep(store):
    """Remove what a power cut left half-written; it may hold a key."""
    for folder in ("", "anchor"):
        for name in store._names(folder):
            if name.endswith(TEMPORARY):
                forget(store._path(folder + "/" + name if folder else name))


def _secrets(store):
    from .secrets import parse_secrets

    data = store._read("secret.json")
    return {} if data is None else parse_secrets(data)


def token(store):
    return _secrets(store).get("token")


def wifi_password(store, ssid):
    return _secrets(store).get("wifi", {}).get(ssid)


def forget_token(store):
    import json

    secrets = _secrets(store)
    if secrets.pop("token", None) is not None:
        store._write("secret.json", json.dumps(secrets).encode())


def has_anchor(store):
    return any(name.startswith("tls-") for name in store._names("anchor"))


def roots(store):
    """Return the roots (DER): for checks in Python, never for a TLS context."""
    return store._certificates("root-")


def fingerprints(store):
    """Return the SHA-256 of each TLS anchor and root, in hex: what the gateway is told."""
    from binascii import hexlify

    return {
        kind: [
            hexlify(hashlib.sha256(der).digest()).decode()
            for der in store._certificates(kind + "-")
        ]
        for kind in ("tls", "root")
    }


def cacerts_are_new(store):
    """Whether cacerts.ask has left something for rollover.follow."""
    return "cacerts.new" in store._names("anchor")


def has_seed(store):
    return len(store._read("seed") or b"") == _SEED_BYTES


def put_seed(store, seed):
    """Store a first seed: the host's bytes alone must not determine it (DESIGN 4.8)."""
    store._write("seed", hashlib.sha256(b"seed" + bytes(seed) + os.urandom(32)).digest())


def write_floor(store, unix_seconds):
    store._write("floor", str(unix_seconds).encode())


def write_identity(store, name, key_der, cert_der=b""):
    """Replace what slot "a" or "b" holds."""
    if name not in ("a", "b"):
        raise ConfigError("only the slots a and b are written, not " + name)
    store._write("slot-" + name, pack_identity(key_der, cert_der))
    return Identity(name, key_der, cert_der, store.chip)


def make_key(store, name):
    """Make an identity's next key, in the chip if it has a slot for it; nothing is on flash."""
    key = store.chip().fresh_key(name) if store.config()["secure_element"] else None
    if key is None:
        from .keys import SoftwareKey

        key = SoftwareKey.generate(store.drbg())
    return key


def fresh_key(store, name):
    """Make the next key of slot "a" or "b"; it is on flash at return."""
    key = store.make_key(name)
    store.write_identity(name, key.to_der())
    return key


def set_current(store, name):
    if store.current() != name:
        store._write("current", name.encode() + b"\n")


def slots(store):
    """Return the facts that recovery_order and spare_slot work from."""
    facts = {}
    for name in ("a", "b"):
        identity = store.identity(name)
        facts[name] = None
        if identity is not None:
            facts[name] = ()
            if identity.cert_der:
                try:
                    facts[name] = identity.life()
                except SecureElementError:  # says nothing of the slot: the chip may come back
                    raise
                except MTLSError:  # a pair that does not parse or match is a damaged slot
                    facts[name] = None
    return facts


def issued(store):
    """Return notBefore of every certificate of ours: no true time is before any of them."""
    found = [facts[0] for facts in store.slots().values() if facts]
    idevid = store.identity("idevid")
    if idevid is not None and idevid.cert_der:
        try:
            found.append(idevid.certificate().not_before)
        except MTLSError:  # a damaged IDevID says nothing of the time
            pass
    return found


def scrub(store):
    """Erase from the flash what was replaced or removed: superseded keys, a used token.

    Takes as long as the chip takes to erase its free blocks. Raises StoreDamaged if a key that
    is in no file is readable all the same.
    """
    from .erase import scrub

    scrub(store)


def decommission(store):
    """Leave the fleet for good: identities, token, passwords and configuration are erased.

    From its first write on nothing here is usable; cut short, it is finished when a Store is
    next made. Reset the board afterwards, its RAM still holds a key. Raises as `scrub` does.
    """
    from .erase import decommission

    store._config = store._drbg = None
    decommission(store, store.root + TOMBSTONE)
