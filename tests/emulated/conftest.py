"""What runs on emulated boards: slow, so apart from `make test` (see `make test-emulated`)."""

from __future__ import annotations

import sys
from pathlib import Path

# A gateway, certificates and servers are made as for simulated boards.
sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))
