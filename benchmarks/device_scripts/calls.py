# GETs from the gateway over one connection. argv: store, base URL, how many; "garbage" prints what
# one more leaves on the heap, in bytes.
import gc
import sys

import mtls

mtls.preload()  # compiling is not calling
from mtls import client
from mtls.store import Store

session = client.Session(sys.argv[2], Store(sys.argv[1]))


def call():
    session.get("/v1/ping").raise_for_status()


def garbage():
    """What a call leaves on the heap, in bytes; the library sweeps after one: not here."""

    class KeepsAll:  # in place of gc
        collect = mem_free = gc.mem_alloc
        threshold = gc.threshold

    client.gc = KeepsAll
    gc.disable()
    before = gc.mem_alloc()
    call()
    return gc.mem_alloc() - before


for _ in range(int(sys.argv[3])):
    call()
if sys.argv[4:] == ["garbage"]:
    print(garbage())
