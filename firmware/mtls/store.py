# Handfast mTLS for MicroPython: what the board keeps on flash, safe from power cuts
# MIT license; Copyright (c) 2026 the Handfast authors
"""Every file is replaced by writing a new one beside it and renaming: littlefs renames one file
atomically, not two. So key and certificate of one identity live in one file (a slot), and which
slot counts is one pointer file. Nothing is ever deleted before its successor is in place.
"""

import hashlib
import os

from micropython import const

from .errors import ConfigError, FlashFull, StoreDamaged
from .identity import TEMPORARY, TOMBSTONE, Identity, unpack_identity

_MAX_FILE_BYTES = const(8192)
_ENOENT = const(2)
_ENOSPC = const(28)


class Store:
    """What a call needs; the other methods are in custody.py."""

    def __init__(self, root="/mtls"):
        self.root = root
        self._config = None
        self._drbg = None
        self._chip = None
        try:
            os.stat(root + TOMBSTONE)
        except OSError as error:
            if error.errno == _ENOENT:
                return
            raise StoreDamaged("cannot read " + root + TOMBSTONE, error.errno)
        self.decommission()  # what a power cut kept from ending

    # Files

    def _path(self, name):
        return self.root + "/" + name

    def _read(self, name):
        """Return the file's bytes, or None when it is absent or too big to be ours."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                if file.seek(0, 2) > _MAX_FILE_BYTES:
                    return None
                file.seek(0)
                return file.read()
        except OSError as error:
            if error.errno == _ENOENT:
                return None
            raise StoreDamaged("cannot read " + path, error.errno)

    def _write(self, name, data):
        path = self._path(name)
        temporary = path + TEMPORARY
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

    # Configuration and secrets

    def config(self):
        if self._config is None:
            from .config import parse_config

            data = self._read("config.json")
            if data is None:
                raise ConfigError("no %s: provision this board" % self._path("config.json"))
            self._config = parse_config(data)
        return self._config

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

    # Randomness

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

    # Identities: "idevid", "a" and "b"

    def identity(self, name):
        """Return the Identity, or None when it is absent or damaged."""
        parts = unpack_identity(self._read(name if name == "idevid" else "slot-" + name))
        return None if parts is None else Identity(name, parts[0], parts[1], self.chip)

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

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        from . import custody

        function = getattr(custody, name)
        return lambda *arguments: function(self, *arguments)
