"""Make firmware/mtls/_p256_table.py: the frozen points of the fixed-base comb on P-256.

Run it from the checkout: ``python scripts/make_p256_table.py`` writes the module,
``--check`` compares it with what is there. The comb (see firmware/mtls/p256.py) reads a scalar of
330 bits as 5 teeth of 66 bits, each cut into 2 blocks of 33, with signed digits: block ``b``,
entry ``j`` is 2^(33 b) (2^(4*66) G + sum over t < 4 of ±2^(66 t) G), plus where bit t of j is set.

The arithmetic here is affine and textbook on purpose: it shares nothing with what it checks.
"""

from __future__ import annotations

import sys
from pathlib import Path

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
TEETH, BLOCKS, BLOCK_BITS = 5, 2, 33
TOOTH_BITS = BLOCKS * BLOCK_BITS
TARGET = Path(__file__).resolve().parent.parent / "firmware" / "mtls" / "_p256_table.py"

Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """Sum of two points, neither of which is the other's negative."""
    if a == b:
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def table() -> bytes:
    """All points, x then y, 32 octets each, big-endian, block after block."""
    powers = [G]  # powers[i] is 2^i G
    for _ in range(TEETH * TOOTH_BITS):
        powers.append(add(powers[-1], powers[-1]))
    out = bytearray()
    for block in range(BLOCKS):
        shift = block * BLOCK_BITS
        for entry in range(1 << (TEETH - 1)):
            point = powers[(TEETH - 1) * TOOTH_BITS + shift]
            for tooth in range(TEETH - 1):
                x, y = powers[tooth * TOOTH_BITS + shift]
                point = add(point, (x, y if entry >> tooth & 1 else P - y))
            out += point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")
    return bytes(out)


def module() -> str:
    """The text of the module."""
    data = table()
    lines = [
        "# Handfast mTLS for MicroPython: points of P-256, made by scripts/make_p256_table.py",
        "# MIT license; Copyright (c) 2026 the Handfast authors",
        "# fmt: off",
        "TABLE = (",
    ]
    for start in range(0, len(data), 16):
        digits = "".join(f"\\x{octet:02x}" for octet in data[start : start + 16])
        lines.append(f'    b"{digits}"')
    return "\n".join([*lines, ")", ""])


def main() -> int:
    """Write the table, or compare it."""
    if "--check" in sys.argv[1:]:
        same = TARGET.read_text(encoding="ascii") == module()
        print(f"{TARGET.name}: {'as generated' if same else 'differs, run this without --check'}")
        return 0 if same else 1
    TARGET.write_text(module(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
