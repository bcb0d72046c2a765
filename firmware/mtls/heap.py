# Handfast mTLS for MicroPython: which modules stay in the heap, and which are let go of
# MIT license; Copyright (c) 2026 the Handfast authors

from gc import collect
from sys import modules

RESIDENTS = "errors plan heap http url store tls call client drbg clock agent".split()
# Needed once a boot or once in a leaf's life, and for no call; and what few boards ever need.
VISITORS = (
    "config entropy timesync tsp x509 der pkcs7 est cacerts rollover keys p256 _p256_table".split()
)
STRANGERS = "anchors csrattrs ntp problem provision retry witness".split()


def make_room():
    """Let go of the modules that are needed only now and then: TLS takes half of a board's heap.

    They hold no state. The next import reads them again.
    """
    package = modules["mtls"]
    for name in VISITORS + STRANGERS:
        if modules.pop("mtls." + name, None):
            delattr(package, name)
    collect()
