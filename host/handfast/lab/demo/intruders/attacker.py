"""An attacker's process: one order a line on stdin, one answer a line on stdout, until stdin ends.

It is told where the gateway listens and what to send, and nothing of what is expected; it ends
with whoever holds the other end of its stdin, however that one ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from handfast.lab.demo.intruders.attempt import Attempt
from handfast.lab.demo.intruders.client import Client


def main() -> None:
    """Make attempts until stdin ends; its first line is JSON: ``{"urls", "trust"}``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="loopback address to call from")
    parser.add_argument("--scratch", required=True, type=Path, help="folder for short-lived files")
    options = parser.parse_args()
    target = json.loads(sys.stdin.readline())
    client = Client(target["urls"], target["trust"], source=options.source, scratch=options.scratch)
    for line in sys.stdin:
        sys.stdout.write(client.make(Attempt.from_order(line)).line() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
