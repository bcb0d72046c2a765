# Handfast application: runs before main.py at every reset; keep it short, a mistake locks you out
# MIT license; Copyright (c) 2026 the Handfast authors

import gc
import sys

# The library is in /lib/mtls and its state in /mtls, which MicroPython would take for the library
# (a folder is a package): what is in the working directory is looked for last.
if "" in sys.path:
    sys.path.remove("")
    sys.path.append("")

# Collect often: what lives long then stays together, and mbedTLS finds its 17 KB in one piece.
gc.threshold(8192)
