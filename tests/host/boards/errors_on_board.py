"""Runs on a board: what errors say, however they are printed. A line each."""

import sys

import mtls
from mtls.errors import console_facts


def tell(do):
    try:
        do()
    except mtls.MTLSError as error:
        sys.print_exception(error, sys.stdout)
        lines.append((type(error).__name__, str(error), repr(error), console_facts(error)))


class Anywhere:
    def drbg(self):
        pass

    def read_floor(self):
        return 1 << 40


lines = []
store = mtls.Store("/nowhere")
tell(lambda: mtls.Session("no url", store))
tell(lambda: mtls.Session("https://a:99999", store))
tell(lambda: mtls.Session("https://127.0.0.1:1", Anywhere(), None).get("/x"))
tell(store.anchors)
tell(store.config)
tell(lambda: mtls.Session("https://127.0.0.1:1", store, None).request("G\nT", "/x"))
tell(lambda: store.write_identity("c", b"", b""))
for line in lines:
    print(line)
