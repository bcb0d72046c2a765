# Handfast application: runs before main.py at every reset; keep it short, a mistake locks you out
# MIT license; Copyright (c) 2026 the Handfast authors

import gc

gc.collect()
