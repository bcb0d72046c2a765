# What a packed library does on a board. argv: what, and more for some. Prints "ok" at the end.
# ruff: noqa: F401, F841, I001, PTH123, PTH208, UP031 - MicroPython, and imports to see what comes
import gc
import os
import sys
import time
from hashlib import sha256

FOLDER = "/mtls.z"


def ours():
    return [name for name in sys.modules if name.split(".")[0] == "mtls"]


def forget():
    for name in ours():
        del sys.modules[name]


def full_but_for(left):
    """Fill the heap but for one piece of it; returns what fills it."""
    gc.collect()
    kept = [None, bytearray(left)]
    for size in (4096, 1024, 256, 96, 32):
        try:
            while True:
                kept[0] = (kept[0], bytearray(size))
        except MemoryError:
            pass
    kept[1] = None
    return kept


def contents():
    """argv: name, size and SHA-256 of each module."""
    import mtls

    for at in range(2, len(sys.argv), 3):
        name, size, digest = sys.argv[at : at + 3]
        with open(FOLDER + "/" + name, "rb") as file:
            content = file.read(int(size))
            more = file.read(1)
        if sha256(content).digest().hex() != digest:
            raise RuntimeError(name + " is another")
        del content, more
        gc.collect()


def imports():
    """The package is one module whatever is imported first, and lets go of what it was given."""
    import mtls.x509

    import mtls
    from mtls import Store, client, heap, store

    if sys.modules["mtls"] is not mtls or mtls.x509 is not sys.modules["mtls.x509"]:
        raise RuntimeError("two packages")
    if store.Store is not Store or client is not store or mtls.client.Session is not mtls.Session:
        raise RuntimeError("two clients")
    for name, own in mtls.__dict__.items():
        if name[:2] != "__" and client.__dict__.get(name, own) is not own:
            raise RuntimeError(name + " hides the library's own")
    heap.make_room()
    if "mtls.x509" in sys.modules:
        raise RuntimeError("x509 was kept")
    if mtls.__version__ != sys.argv[2]:
        raise RuntimeError("version " + mtls.__version__)
    from mtls import x509

    try:
        import mtls.nothing_of_this_name
    except ImportError as error:
        if "no module named 'mtls.nothing_of_this_name'" not in str(error):
            raise
    else:
        raise RuntimeError("a module of no name")
    if hasattr(mtls, "nothing_of_this_name"):
        raise RuntimeError("an attribute of no name")
    if os.listdir(FOLDER):
        raise RuntimeError("something is listed")


def again():
    """Let go of and imported again, as after an import that failed."""
    for _ in range(3):
        import mtls.custody

        forget()


def full_heap():
    """argv: module, most bytes that are left. An import without heap raises MemoryError, leaves
    nothing behind, and is repeated when there is some."""
    name = sys.argv[2]
    if name != "mtls":
        import mtls
    before = ours()
    failed = 0
    most = int(sys.argv[3])
    for left in range(0, most, most // 40):
        full = full_but_for(left)
        try:
            __import__(name)
            done = True
        except MemoryError:
            done = False
            failed += 1
        full = None
        gc.collect()
        if not done:
            if sorted(ours()) != sorted(before):
                raise RuntimeError("%d bytes left %s" % (left, ours()))
            __import__(name)
        for found in ours():
            if found not in before:
                del sys.modules[found]
        gc.collect()
    print(failed)


def replaced():
    """argv: the file in use, one that takes its place while the library runs."""
    import mtls
    from mtls import custody

    with open(sys.argv[3], "rb") as file:
        other = file.read()
    with open(sys.argv[2], "wb") as file:
        file.write(other)
    del other
    for name in ("clock", "agent", "x509", "net", "custody"):
        sys.modules.pop("mtls." + name, None)
        __import__("mtls." + name)
    print(mtls.agent.Agent.__name__, mtls.clock.Clock.__name__)


def interrupted():
    """Import until Ctrl-C comes, or for ten seconds. Prints whether it came."""
    import mtls

    print("begun")
    until = time.ticks_add(time.ticks_ms(), 2000)
    try:
        while time.ticks_diff(until, time.ticks_ms()) > 0:
            import mtls.x509
            import mtls.keys
            import mtls.est
            import mtls.rollover
            import mtls.timesync

            mtls.heap.make_room()
        print("not noticed")
    except KeyboardInterrupt:
        print("interrupted")


globals()[sys.argv[1]]()
print("ok")
