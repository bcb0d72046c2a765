# Run at each soft reset, before the heap goes (mpconfigboard.h)
# MIT license; Copyright (c) 2026 the Handfast authors

import uplink

uplink.stop()
