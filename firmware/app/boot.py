# Handfast application: runs before main.py at every reset; keep it short, a mistake locks you out
# MIT license; Copyright (c) 2026 the Handfast authors

import gc
import os
import sys

# Look in / last: the folder /mtls (configuration, keys) would be taken for the package `mtls`.
sys.path.remove("")
sys.path.append("")

# Collect often: what lives long then stays together, and mbedTLS finds its 17 KB in one piece.
gc.threshold(gc.mem_free() // 16)

# A new version lies whole beside this one: put all of it in its place before any of it runs. If
# that fails this file fails, and main.py does not run on a mixture of both.
try:
    # Not there: but until the first change after power-on littlefs does not end a rename that a
    # power cut halved, and hides the file behind it.
    os.remove("/handfast.next/none")
except OSError:
    pass
try:
    with open("/handfast.next/install.py") as _file:
        _install = _file.read()
except OSError:
    _install = None
if _install:
    exec(_install, {})
    raise SystemExit  # start again, by the new boot.py
del _install
