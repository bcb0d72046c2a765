# Handfast mTLS for MicroPython: the CA certificates that an EST server publishes (RFC 7030 4.1)
# MIT license; Copyright (c) 2026 the Handfast authors
"""What they say of our trust anchors is for rollover.py, when the TLS session is over: beside one
there may be no room for it. Until then they are kept in a file, and forgotten at the next boot.
"""

import os
from binascii import hexlify
from hashlib import sha256

from micropython import const

from .errors import FlashFull, ProtocolError, StoreDamaged
from .est import PKCS7, decoded, path, require_type, simplereenroll

NEWS = "anchor/cacerts.new"
_MAX_CHARACTERS = const(16384)  # some 12 KB of certificates
_ENOSPC = const(28)


def fetch(session, known, begin):
    """Pass the message (DER) in pieces to what `begin` returns; return the SHA-256 of the answer.

    None when the server says, or shows, that it is the answer that is `known`.
    """
    headers = (("If-None-Match", '"%s"' % hexlify(known).decode()),) if known else ()
    response = session.get(path(session, "cacerts"), headers=headers, stream=True)
    if known and response.status_code == 304:
        return None
    response.raise_for_status()
    if response.status_code != 200:
        raise ProtocolError("the EST server answered %d" % response.status_code)
    require_type(response, PKCS7)
    write = begin()
    digest = sha256()
    total = 0
    text = b""
    for piece in response.iter_content():
        total += len(piece)
        if total > _MAX_CHARACTERS:
            raise ProtocolError("the EST server sends too many CA certificates")
        digest.update(piece)
        text += piece.replace(b"\n", b"").replace(b"\r", b"")
        whole = len(text) & ~3
        write(decoded(text[:whole]))
        text = text[whole:]
    digest = digest.digest()
    return None if digest == known else digest


def ask(session, store):
    """Keep what the server publishes in a file if it is not what it did the last time.

    Before the message come the SHA-256 of the answer and of the anchor that the server was
    verified by, zeros if not known.
    """
    news = store._path(NEWS)
    file = None

    def begin():
        nonlocal file
        file = open(news, "wb")
        file.write(bytes(64))
        return file.write

    digest = None
    try:
        digest = fetch(session, store._read("anchor/cacerts"), begin)
        if digest:
            file.seek(0)
            file.write(digest)
            if session.pins and session.pins.anchor:
                file.write(session.pins.anchor)
    except OSError as error:
        digest = None
        full = error.errno == _ENOSPC
        raise (FlashFull if full else StoreDamaged)("cannot write " + news, error.errno)
    finally:
        if file is not None:
            file.close()
            if not digest:
                os.remove(news)


def renewed(session, request, spki, now, agent):
    """Return the leaf (DER) that follows the agent's own, and keep news of CAs on the way.

    On the renewal's own connection: nothing about CAs may cost the leaf that was issued.
    """
    store = agent.store
    if len(store.anchors()) > 1:  # in a rollover: by which of them is the server verified?
        from .witness import Witness

        session.pins = Witness()

    def also():
        try:
            ask(session, store)
        except Exception as error:
            agent._note(error)

    return simplereenroll(session, request, spki, now, also)
