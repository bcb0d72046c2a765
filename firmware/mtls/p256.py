# Handfast mTLS for MicroPython: multiples of P-256's base point, and ECDSA, in big integers
# MIT license; Copyright (c) 2026 the Handfast authors

# Big integers do not run in constant time. So every secret is blinded: the scalar by a random
# multiple of the group's order, the point by a random Z, the nonce's inverse by a random factor.
# Meant for making keys and signing CSRs; handshakes are signed by mbedTLS.

from micropython import const

from .drbg import hmac_sha256
from .errors import EntropyError

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = const(0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B)


def inverse(a, m):
    """The inverse of a modulo the prime m, by Euclid (a is random or blinded, see above)."""
    r0, r1, s0, s1 = m, a % m, 0, 1
    while r1:
        q = r0 // r1
        r0, r1 = r1, r0 - q * r1
        s0, s1 = s1, s0 - q * s1
    return s0 % m


def on_curve(x, y):
    return 0 <= x < P and 0 <= y < P and not (y * y - (x * x - 3) * x - _B) % P


def _double(X, Y, Z):
    p = P
    zz = Z * Z % p
    yy = Y * Y % p
    b = X * yy % p
    a = 3 * (X - zz) * (X + zz) % p
    X3 = (a * a - 8 * b) % p
    return X3, (a * (4 * b - X3) - 8 * yy * yy) % p, 2 * Y * Z % p


def _add(X, Y, Z, x, y):
    """Jacobian plus affine; None for the two cases that the formula does not cover."""
    p = P
    zz = Z * Z % p
    h = (x * zz - X) % p
    if not h:
        return None
    r = (y * zz * Z - Y) % p
    hh = h * h % p
    hhh = h * hh % p
    v = X * hh % p
    X3 = (r * r - hhh - 2 * v) % p
    return X3, (r * (v - X3) - Y * hhh) % p, Z * h % p


def _digits(k, random):
    """The 33 x 2 signed columns of a blinded k: index and sign of each table entry.

    k + rN is made odd by the choice of r, so that it is a sum of 330 digits ±2^i, none of them
    zero (Hedabou et al. 2005): halves the table, and every column costs one addition.
    """
    r = int.from_bytes(random(9), "big") >> 6  # 66 bits: 65 after fixing the parity
    k += (r ^ (r ^ k ^ 1) & 1) * N
    bits = ((k + (1 << 330) - 1) >> 1).to_bytes(42, "little")
    out = bytearray(66)
    for column in range(66):
        entry = 0
        for i in range(264 + column, -1, -66):
            entry = entry << 1 | bits[i >> 3] >> (i & 7) & 1
        # Top tooth minus: the negative of the entry with all other signs turned.
        out[column] = entry ^ 16 if entry & 16 else entry ^ 15 | 16
    return out


def _comb(k, random):
    """One pass of the comb: the Jacobian multiple, or None in the case _add does not cover."""
    from ._p256_table import TABLE

    p = P
    digits = _digits(k, random)
    Z = 0
    while not Z:
        Z = int.from_bytes(random(32), "big") % p
    point = None
    for i in range(32, -1, -1):
        if point:
            point = _double(*point)
        for column in (i, i + 33):
            entry = digits[column]
            at = (entry & 15) << 6 | (1024 if column >= 33 else 0)
            x = int.from_bytes(TABLE[at : at + 32], "big")
            y = int.from_bytes(TABLE[at + 32 : at + 64], "big")
            if entry & 16:
                y = p - y
            if point:
                point = _add(*point, x, y)
                if point is None:
                    return None
            else:
                zz = Z * Z % p
                point = x * zz % p, y * zz * Z % p, Z
    return point


def multiply(k, random):
    """kG as (x, y), for 0 < k < N. random(n) gives n random bytes to blind with.

    The result is checked to lie on the curve: a fault in the middle would give away the scalar.
    """
    if not 0 < k < N:
        raise ValueError("scalar out of range")
    # A column that meets its own point is a matter of 2^-250; another blinding avoids it.
    for _ in range(8):
        point = _comb(k, random)
        if point:
            X, Y, Z = point
            z = inverse(Z, P)
            zz = z * z % P
            x, y = X * zz % P, Y * zz * z % P
            if on_curve(x, y):
                return x, y
    raise EntropyError("blinding failed")


def _nonces(d, digest, extra):
    """Candidates for the nonce (RFC 6979 §3.2, with additional data of §3.6)."""
    seed = d.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big") + extra
    k, v = bytes(32), b"\x01" * 32
    for mark in (b"\0", b"\1"):
        k = hmac_sha256(k, v, mark, seed)
        v = hmac_sha256(k, v)
    while True:
        v = hmac_sha256(k, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < N:
            yield nonce
        k = hmac_sha256(k, v, b"\0")
        v = hmac_sha256(k, v)


def sign(d, digest, random, extra=b""):
    """ECDSA of a SHA-256 digest: (r, s). extra is additional data for the nonce (RFC 6979 §3.6)."""
    e = int.from_bytes(digest, "big")
    for nonce in _nonces(d, digest, extra):
        r = multiply(nonce, random)[0] % N
        blind = int.from_bytes(random(32), "big") % N
        if not r or not blind:
            continue
        s = inverse(nonce * blind, N) * (blind * e + blind * d % N * r) % N
        if s:
            return r, s
