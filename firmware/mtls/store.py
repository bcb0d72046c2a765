# Handfast mTLS for MicroPython: what the board keeps on flash, safe from power cuts
# MIT license; Copyright (c) 2026 the Handfast authors
"""Every file is replaced by writing a new one beside it and renaming: littlefs renames one file
atomically, not two. So key and certificate of one identity live in one file (a slot), and which
slot counts is one pointer file. Nothing is ever deleted before its successor is in place.
"""

import hashlib
import os

from micropython import const

from .errors import ConfigError, FlashFull, MTLSError, SecureElementError, StoreDamaged


_IN_CHIP = const(0x82)  # keys.IN_CHIP: to ask for it a handshake need not load what makes keys
_POINT_BYTES = const(65)
_MAGIC = const(b"HFS1")
_OVERHEAD = const(40)  # magic, two lengths, SHA-256
_MAX_FILE_BYTES = const(8192)
_SEED_BYTES = const(32)
_ENOENT = const(2)
_ENOSPC = const(28)
_TEMPORARY = const(".new")
# Stands beside the folder from the first moment of a decommissioning to its last.
_TOMBSTONE = const(".erase")


def pack_identity(key_der, cert_der=b""):
    """Return the slot file: magic, key, leaf (empty while it is not issued), SHA-256."""
    body = b"".join(
        (
            _MAGIC,
            len(key_der).to_bytes(2, "big"),
            key_der,
            len(cert_der).to_bytes(2, "big"),
            cert_der,
        )
    )
    return body + hashlib.sha256(body).digest()


def unpack_identity(blob):
    """Return (key DER, leaf DER), or None when the file is damaged in any way."""
    if blob is None or len(blob) < _OVERHEAD or blob[:4] != _MAGIC:
        return None
    if hashlib.sha256(blob[:-32]).digest() != blob[-32:]:
        return None
    key_end = 6 + int.from_bytes(blob[4:6], "big")
    if key_end + 2 + 32 > len(blob):
        return None
    cert_end = key_end + 2 + int.from_bytes(blob[key_end : key_end + 2], "big")
    if key_end == 6 or cert_end + 32 != len(blob):
        return None
    return blob[6:key_end], blob[key_end + 2 : cert_end]


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


class Identity:
    """A private key, or the reference to one in a chip, and, once issued, its leaf.

    ``chip`` is a function that returns the SecureElement; asked only for a key that is in it.
    """

    def __init__(self, name, key_der, cert_der=b"", chip=None):
        self.name = name
        self.key_der = key_der
        self.cert_der = cert_der
        self._chip = chip

    def __repr__(self):
        return "<Identity %s%s>" % (self.name, "" if self.cert_der else ", no certificate yet")

    def in_chip(self):
        return self.key_der[0] == _IN_CHIP

    def key(self, drbg=None):
        if self.in_chip():
            from .atecc import SecureElementKey

            return SecureElementKey.from_der(self.key_der, self._chip())
        from .keys import SoftwareKey

        return SoftwareKey.from_der(self.key_der, drbg)

    def certificate(self):
        from .x509 import Certificate

        return Certificate(self.cert_der)

    def life(self):
        """Return the leaf's (not_before, not_after); raises StoreDamaged if it is not the key's."""
        if not self.matches():
            raise StoreDamaged("slot %s holds a certificate for another key" % self.name)
        certificate = self.certificate()
        return certificate.not_before, certificate.not_after

    def matches(self):
        """Whether the leaf is for this key: mbedTLS loads a mismatched pair without a word."""
        return self.key().matches(self.certificate().spki)

    def paired(self):
        """As `matches`, for a pair that this board wrote itself: by the public point alone, which
        ends an ECPrivateKey (RFC 5915), so that a handshake needs no parsers. A chip is asked."""
        return self.matches() if self.in_chip() else self.key_der[-_POINT_BYTES:] in self.cert_der


class Store:
    def __init__(self, root="/mtls"):
        self.root = root
        self._config = None
        self._drbg = None
        self._chip = None
        try:
            os.stat(root + _TOMBSTONE)
        except OSError as error:
            if error.errno == _ENOENT:
                return
            raise StoreDamaged("cannot read " + root + _TOMBSTONE, error.errno)
        self.decommission()  # what a power cut kept from ending

    # Files

    def _path(self, name):
        return self.root + "/" + name

    def _read(self, name):
        """Return the file's bytes, or None when it is absent or too big to be ours."""
        path = self._path(name)
        try:
            if os.stat(path)[6] > _MAX_FILE_BYTES:
                return None
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            if error.errno == _ENOENT:
                return None
            raise StoreDamaged("cannot read " + path, error.errno)

    def _write(self, name, data):
        path = self._path(name)
        temporary = path + _TEMPORARY
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            os.rename(temporary, path)
        except OSError as error:
            try:
                os.remove(temporary)
            except OSError:
                pass  # it was never made
            if error.errno == _ENOSPC:
                raise FlashFull("no room on flash for %s: remove some files" % path, _ENOSPC)
            raise StoreDamaged("cannot write " + path, error.errno)
        if hasattr(os, "sync"):
            os.sync()

    def _names(self, folder=""):
        try:
            return sorted(os.listdir(self.root + ("/" + folder if folder else "")))
        except OSError:
            return []

    def sweep(self):
        """Remove what a power cut left half-written; it may hold a key."""
        for folder in ("", "anchor"):
            for name in self._names(folder):
                if name.endswith(_TEMPORARY):
                    os.remove(self._path(folder + "/" + name if folder else name))

    # Configuration and secrets

    def config(self):
        if self._config is None:
            from .config import parse_config

            data = self._read("config.json")
            if data is None:
                raise ConfigError("no %s: provision this board" % self._path("config.json"))
            self._config = parse_config(data)
        return self._config

    def _secrets(self):
        from .config import parse_secrets

        data = self._read("secret.json")
        return {} if data is None else parse_secrets(data)

    def token(self):
        return self._secrets().get("token")

    def wifi_password(self, ssid):
        return self._secrets().get("wifi", {}).get(ssid)

    def forget_token(self):
        import json

        secrets = self._secrets()
        if secrets.pop("token", None) is not None:
            self._write("secret.json", json.dumps(secrets).encode())

    # Trust

    def _certificates(self, prefix):
        found = []
        for name in self._names("anchor"):
            if name.startswith(prefix) and name.endswith(".der"):
                der = self._read("anchor/" + name)
                if der:
                    found.append(der)
        return found

    def anchors(self):
        """Return the `server` CAs (DER): all that may ever be loaded into a TLS context."""
        found = self._certificates("tls-")
        if not found:
            raise ConfigError("no %s: provision this board" % self._path("anchor/tls-*.der"))
        return found

    def has_anchor(self):
        return any(name.startswith("tls-") for name in self._names("anchor"))

    def roots(self):
        """Return the roots (DER): for checks in Python, never for a TLS context."""
        return self._certificates("root-")

    def fingerprints(self):
        """Return the SHA-256 of each TLS anchor and root, in hex: what the gateway is told."""
        from binascii import hexlify

        return {
            kind: [
                hexlify(hashlib.sha256(der).digest()).decode()
                for der in self._certificates(kind + "-")
            ]
            for kind in ("tls", "root")
        }

    def cacerts_are_new(self):
        """Whether cacerts.ask has left something for rollover.follow."""
        return "cacerts.new" in self._names("anchor")

    def cacerts_seen(self):
        """Return the SHA-256 of the EST server's last answer on CAs that was acted on, or None."""
        return self._read("anchor/cacerts")

    # Randomness

    def has_seed(self):
        return len(self._read("seed") or b"") == _SEED_BYTES

    def put_seed(self, seed):
        """Store a first seed: the host's bytes alone must not determine it (DESIGN 4.8)."""
        self._write("seed", hashlib.sha256(b"seed" + bytes(seed) + os.urandom(32)).digest())

    def drbg(self):
        """Return the generator; the seed on flash is replaced before anything is drawn from it."""
        if self._drbg is None:
            from .entropy import gather, health_check

            health_check(os.urandom)
            old = self._read("seed") or b""
            fresh = os.urandom(32)
            self._write("seed", hashlib.sha256(b"next" + old + fresh).digest())
            self._drbg = gather(hashlib.sha256(b"use" + old + fresh).digest())
        return self._drbg

    # Time

    def read_floor(self):
        try:
            return int(self._read("floor") or b"0")
        except ValueError:
            return 0

    def write_floor(self, unix_seconds):
        self._write("floor", str(unix_seconds).encode())

    # Identities: "idevid", "a" and "b"

    def identity(self, name):
        """Return the Identity, or None when it is absent or damaged."""
        parts = unpack_identity(self._read(name if name == "idevid" else "slot-" + name))
        return None if parts is None else Identity(name, parts[0], parts[1], self.chip)

    def write_identity(self, name, key_der, cert_der=b""):
        """Replace what slot "a" or "b" holds."""
        if name not in ("a", "b"):
            raise ConfigError("only the slots a and b are written, not " + name)
        self._write("slot-" + name, pack_identity(key_der, cert_der))
        return Identity(name, key_der, cert_der, self.chip)

    def make_key(self, name):
        """Make an identity's next key, in the chip if it has a slot for it; nothing is on flash."""
        key = self.chip().fresh_key(name) if self.config()["secure_element"] else None
        if key is None:
            from .keys import SoftwareKey

            key = SoftwareKey.generate(self.drbg())
        return key

    def fresh_key(self, name):
        """Make the next key of slot "a" or "b"; it is on flash at return."""
        key = self.make_key(name)
        self.write_identity(name, key.to_der())
        return key

    def chip(self):
        """Return the SecureElement that config.json names."""
        if self._chip is None:
            from .atecc import open_chip

            self._chip = open_chip(self.config()["secure_element"])
        return self._chip

    def current(self):
        """Return the slot that the pointer names: "a", "b", or None."""
        pointer = self._read("current")
        return pointer[:1].decode() if pointer in (b"a\n", b"b\n") else None

    def set_current(self, name):
        if self.current() != name:
            self._write("current", name.encode() + b"\n")

    def slots(self):
        """Return the facts that recovery_order and spare_slot work from."""
        facts = {}
        for name in ("a", "b"):
            identity = self.identity(name)
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

    def issued(self):
        """Return notBefore of every certificate of ours: no true time is before any of them."""
        found = [facts[0] for facts in self.slots().values() if facts]
        idevid = self.identity("idevid")
        if idevid is not None and idevid.cert_der:
            try:
                found.append(idevid.certificate().not_before)
            except MTLSError:  # a damaged IDevID says nothing of the time
                pass
        return found

    # What the flash still holds: erase.py

    def scrub(self):
        """Erase from the flash what was replaced or removed: superseded keys, a used token.

        Takes as long as the chip takes to erase its free blocks. Raises StoreDamaged if a key that
        is in no file is readable all the same.
        """
        from .erase import scrub

        scrub(self)

    def decommission(self):
        """Leave the fleet for good: identities, token, passwords and configuration are erased.

        From its first write on nothing here is usable; cut short, it is finished when a Store is
        next made. Reset the board afterwards, its RAM still holds a key. Raises as `scrub` does.
        """
        from .erase import decommission

        self._config = self._drbg = None
        decommission(self, self.root + _TOMBSTONE)
