# GETs from the gateway over one connection. argv: store, base URL, how many; "garbage" prints what
# the last of them left on the heap, in bytes.
import gc
import sys

import mtls

mtls.preload()  # compiling is not calling
from mtls import client
from mtls.store import Store

session = client.Session(sys.argv[2], Store(sys.argv[1]))
calls = int(sys.argv[3])
left = 0
if sys.argv[4:] == ["garbage"]:

    class KeepsAll:
        collect = gc.mem_alloc

    client.gc = KeepsAll  # the library sweeps after a call; what was swept is the question
    gc.disable()
for _ in range(calls):
    before = gc.mem_alloc()
    session.get("/v1/ping").raise_for_status()
    left = gc.mem_alloc() - before
print(left)
