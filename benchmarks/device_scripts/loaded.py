# Prints the files of the library that one GET with a stored identity loads, those included that
# have been let go of again. argv: store, base URL.
import sys

import mtls
from mtls import heap

loaded = set()
make_room = heap.make_room


def look():
    for name, module in sys.modules.items():
        if name.split(".")[0] == "mtls" and module.__name__ == name:
            loaded.add(name[5:] or "__init__")


def look_first():
    look()
    make_room()


for module in list(sys.modules.values()):
    if hasattr(module, "make_room"):
        module.make_room = look_first
session = mtls.Session(sys.argv[2], mtls.Store(sys.argv[1]))
session.get("/v1/ping").raise_for_status()
look()
print(" ".join(sorted(loaded)))
