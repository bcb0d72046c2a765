# One call from a heap that is full but for one piece, and one when it is free again.
# argv: store root, base URL, bytes of that piece. Prints a JSON list each: whether room.py says
# that a session fits, and how the call ended.
import gc
import json
import sys

import mtls
from mtls import room

gc.threshold(8192)
mtls.preload()


def call():
    fits = room.room()[1]
    try:
        outcome = mtls.Session(sys.argv[2], store, None).get("/x").text
    except mtls.MTLSError as error:
        outcome = type(error).__name__
    if gc.threshold() != 8192:
        raise SystemExit("the heap is not collected as often as it was before the handshake")
    return [fits, outcome]


store = mtls.Store(sys.argv[1])
store.drbg()
reserve = bytearray(int(sys.argv[3]))
full = None
for size in (4096, 1024, 256, 96, 32):
    try:
        while True:
            full = [full, bytearray(size)]
    except MemoryError:
        pass


reserve = None
before = call()
full = None
gc.collect()
print(json.dumps(before))
print(json.dumps(call()))
