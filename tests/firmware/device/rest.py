# Runs a few lines of an application against a server and prints what they leave in `out`, as JSON.
# argv: store root, base URL, options of the Session as JSON, the file with the lines.
import gc
import io
import json
import sys
import time

import mtls
from mtls.errors import MTLSError

root, url, options, lines = sys.argv[1:5]
store = mtls.Store(root)
session = mtls.Session(url, store, None, **json.loads(options))
out = []
scope = {
    "MTLSError": MTLSError,
    "gc": gc,
    "io": io,
    "json": json,
    "mtls": mtls,
    "out": out,
    "session": session,
    "store": store,
    "sys": sys,
    "time": time,
    "url": url,
}
try:
    with open(lines) as file:  # noqa: PTH123 (MicroPython)
        exec(file.read(), scope)  # noqa: S102 (the test's own lines)
except MTLSError as error:
    out.append([type(error).__name__, str(error)])
print(json.dumps(out))
