"""A rollover of server CA and root on a simulated board, without a network, to cut its power in.

`prepare` puts a board into the state before it. A boot at ROLL_AT then goes through the whole of
it, from the first byte that cacerts.ask writes: both generations are published, then the new one
alone. What CA certificates there are comes from files, since a cut must hit the same operation
each time. A boot at LOOK_AT shows what is held, and finishes the rollover. Both end with "DONE".
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from cut_power import library
from est_peer import certs_only_der
from rollover_pki import T, der, pki, sha

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard

ROLL_AT, LOOK_AT = 1_000_000_000, 2_000_000_000  # the clock says what a boot is for

BOTH = ("new-root", "root", "new-with-old", "old-with-new", "server", "server3", "device")
NEW_ALONE = ("new-root", "old-with-new", "server3", "device")
BEFORE = (frozenset({"server"}), frozenset({"root"}))
AFTER = (frozenset({"server3"}), frozenset({"new-root"}))

_MODULES = [
    "__init__",
    "cacerts",
    "custody",
    "der",
    "errors",
    "est",
    "identity",
    "pkcs7",
    "rollover",
    "store",
    "utc",
    "x509",
]  # of the library: all that it takes

_MAIN = """
import time
from hashlib import sha256
from mtls import cacerts, rollover
from mtls.store import Store

class Session:
    pins = None

class Witness:
    def __init__(self, anchor):
        self.anchor = anchor

def fetch(session, known, begin):
    with open(session.answer, "rb") as file:
        message = file.read()
    digest = sha256(message).digest()
    if digest == known:
        return None
    write = begin()
    for at in range(0, len(message), 384):
        write(message[at : at + 384])
    return digest

cacerts.fetch = fetch

def roll(store):
    for name, anchor in (("both", OLD), ("new", NEW)):
        session = Session()
        session.answer = "/" + name + ".p7c"
        session.pins = Witness(anchor)
        cacerts.ask(session, store)
        if store.cacerts_are_new():
            rollover.follow(store, NOW)

def show(store):
    import os
    held = store.fingerprints()
    left = [name for name in os.listdir("/mtls/anchor") if name.endswith(".new")]
    print(repr((held["tls"], held["root"], left)))

store = Store()
if time.gmtime()[0] > 2020:
    store.sweep()
    show(store)
roll(store)
show(store)
print("DONE")
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a board holds, by the names of rollover_pki; ``left`` is what is half written."""

    tls: frozenset[str]
    roots: frozenset[str]
    left: tuple[str, ...]

    @property
    def anchors(self) -> tuple[frozenset[str], frozenset[str]]:
        return self.tls, self.roots


def prepare(board: SimulatedBoard) -> None:
    """Leave a board that is off with the old anchors and a main.py that rolls them over."""
    text = _MAIN.replace("NOW", str(T)).replace("OLD", repr(sha("server")))
    files = {
        "/both.p7c": certs_only_der([pki()[name] for name in BOTH]),
        "/new.p7c": certs_only_der([pki()[name] for name in NEW_ALONE]),
        "/mtls/anchor/tls-0.der": der("server")[0],
        "/mtls/anchor/root-0.der": der("root")[0],
        "/main.py": text.replace("NEW", repr(sha("server3"))).encode(),
    }
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.push(library(*_MODULES) | files)
    board.power_off()


def shown(told: str) -> list[Held]:
    """Return what a boot printed: what it held, first and last."""
    by_sha = {sha(name).hex(): name for name in pki()}
    found = []
    for line in told.splitlines():
        if line.startswith("(["):
            tls, roots, left = ast.literal_eval(line)
            named = [frozenset(by_sha[one] for one in kind) for kind in (tls, roots)]
            found.append(Held(*named, tuple(left)))
    return found
