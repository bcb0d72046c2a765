# Handfast application: runs before main.py at every reset; keep it short, a mistake locks you out
# MIT license; Copyright (c) 2026 the Handfast authors

import gc
import sys

# Look in / last: the folder /mtls (configuration, keys) would be taken for the package `mtls`.
sys.path.remove("")
sys.path.append("")

# Collect often: what lives long then stays together, and mbedTLS finds its 17 KB in one piece.
gc.threshold(8192)
