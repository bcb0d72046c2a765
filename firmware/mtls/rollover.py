# Handfast mTLS for MicroPython: trust anchors that follow each other (DESIGN 5, RFC 4210 4.4)
# MIT license; Copyright (c) 2026 the Handfast authors
"""What a board trusts changes only by what its roots have signed. New anchors are on flash before
any goes, so that a power cut leaves the old set, the new one, or both. Imported when the server's
CA certificates are others than the last time, and let go again.
"""

import os
from binascii import hexlify
from hashlib import sha256

from micropython import const

from .custody import forget
from .errors import DecodeError, UnsupportedAlgorithm, Untrusted
from .x509 import Certificate, check_issuer, check_tls_anchor

_MOST_HELD = const(4)  # of each kind: a rollover needs two, one that was never ended a third
_MOST_PUBLISHED = const(16)
_NOT_OURS = (DecodeError, Untrusted, UnsupportedAlgorithm)


# Whom the roots vouch for


def server_cas(published, roots, now):
    """Return those of the certificates (DER) that may become TLS anchors, in their order.

    A root held here has signed each; it is a CA, and for serverAuth. One whose life has not begun
    yet is judged at its beginning: the board's clock may be behind, and mbedTLS looks again at
    each handshake. The roots themselves never are anchors (DESIGN 5).
    """
    found = []
    for der in published:
        try:
            if der not in roots:
                check_tls_anchor(der, roots, max(now, Certificate(der).not_before))
                found.append(der)
        except _NOT_OURS:
            pass  # a device CA, or another's: they stand in cacerts too
    return found


def new_roots(published, roots, now):
    """Return those of the certificates (DER) that a root held here has given its place to.

    Each signs itself, and its key is certified by a root that is no younger (new-with-old).
    """
    found = []
    for der in published:
        try:
            root = Certificate(der)
            t = max(now, root.not_before)
            if der not in roots and _is_root(root, t) and root.signed_by(root):
                if _given_place(root, published, roots, t):
                    found.append(der)
        except _NOT_OURS:
            pass
    return found


def _is_root(certificate, t):
    check_issuer(certificate, None, t, 1)
    return not certificate.eku


def _given_place(root, published, roots, t):
    for der in published:
        try:
            link = Certificate(der)
            same = link.spki == root.spki and link.subject == root.subject
            if not same or der == root.der or not _is_root(link, t):
                continue
            for held in roots:
                old = Certificate(held)
                younger = old.not_before > root.not_before
                if not younger and _is_root(old, t) and link.signed_by(old):
                    return old.spki != root.spki
        except _NOT_OURS:
            pass
    return False


# What changes


def _begins(der):
    try:
        return Certificate(der).not_before
    except DecodeError:
        return 0  # damaged on flash: anything may take its place


def _outdated(held, published):
    """Return those of the held that are published no more and have a successor that is."""
    kept = [_begins(der) for der in held if der in published]
    if not kept:
        return []  # the list says nothing of ours
    return [der for der in held if der not in published and _begins(der) <= max(kept)]


def decide(tls, roots, published, verified_by, now):
    """Return (roots to add, anchors to add, anchors to drop, roots to drop, is that all). Pure.

    Certificates are DER. `verified_by` is the SHA-256 of the anchor that the server was verified
    by, None if not known: only one that stays may speak for dropping another, and what is older
    than all that is held comes in no more.
    """
    to_root = new_roots(published, roots, now)
    oldest = min([_begins(der) for der in tls]) if tls else 0
    to_tls = [
        der
        for der in server_cas(published, roots + to_root, now)
        if der not in tls and _begins(der) >= oldest
    ]
    complete = len(tls) + len(to_tls) <= _MOST_HELD and len(roots) + len(to_root) <= _MOST_HELD
    to_tls = to_tls[: max(0, _MOST_HELD - len(tls))]
    to_root = to_root[: max(0, _MOST_HELD - len(roots))]
    from_tls = _outdated(tls + to_tls, published)
    speakers = [sha256(der).digest() for der in tls if der in published]
    if from_tls and verified_by not in speakers:
        from_tls = []
        complete = False
    return to_root, to_tls, from_tls, _outdated(roots + to_root, published), complete


# On flash


def keep(store, kind, der):
    """Keep a CA certificate that was checked: "tls" for an anchor, "root" for a root."""
    try:
        os.mkdir(store.root + "/anchor")
    except OSError:
        pass  # it is there, or the write below says why not
    store._write("anchor/%s-%s.der" % (kind, hexlify(sha256(der).digest()).decode()[:16]), der)


def _drop(store, kind, der):
    """Remove it, whatever its file is called."""
    for name in store._names("anchor"):
        if name.startswith(kind) and store._read("anchor/" + name) == der:
            forget(store._path("anchor/" + name))


def follow(store, now):
    """Take over what cacerts.ask has kept; return the facts of an event, () if nothing changed."""
    from .cacerts import NEWS
    from .pkcs7 import certificates

    path = store._path(NEWS)
    with open(path, "rb") as file:
        digest = file.read(32)
        verified_by = file.read(32)
        message = file.read()
    forget(store._path(NEWS))
    published = certificates(message, _MOST_PUBLISHED)
    tls, roots = store.anchors(), store.roots()
    if len(tls) == 1:
        verified_by = sha256(tls[0]).digest()
    to_root, to_tls, from_tls, from_root, complete = decide(tls, roots, published, verified_by, now)
    for kind, add in (("root", to_root), ("tls", to_tls)):
        for der in add:
            keep(store, kind, der)
    for kind, drop in (("tls", from_tls), ("root", from_root)):
        for der in drop:
            _drop(store, kind, der)
    if complete:
        store._write("anchor/cacerts", digest)
    added, dropped = len(to_root + to_tls), len(from_tls + from_root)
    return (("added", added), ("dropped", dropped)) if added or dropped else ()
