# Runs on CPython and on a board: published vectors of P-256, RFC 6979 and HMAC-DRBG, stuck sources.
# ruff: noqa: PTH123, PT018  (MicroPython has no pathlib and no pytest)
import json
import os
import sys
from binascii import hexlify, unhexlify

from mtls import drbg, entropy, keys, p256
from mtls.errors import EntropyError

with open(sys.argv[1]) as file:
    given = json.load(file)


def hex32(number):
    return hexlify(number.to_bytes(32, "big")).decode()


ec = given["p256"]
d = int(ec["private_key"], 16)
x, y = p256.multiply(d, os.urandom)
assert (hex32(x), hex32(y)) == (ec["public_x"].lower(), ec["public_y"].lower())
for one in ec["signatures"]:
    import hashlib

    digest = hashlib.sha256(one["message"].encode()).digest()
    r, s = p256.sign(d, digest, os.urandom)
    assert (hex32(r), hex32(s)) == (one["r"].lower(), one["s"].lower()), one["message"]

for one in given["hmac_drbg"]["vectors"]:
    generator = drbg.HmacDrbg(
        unhexlify(one["entropy"]) + unhexlify(one["nonce"]), unhexlify(one["personal"])
    )
    if one["reseed"]:
        generator._update(unhexlify(one["reseed"]))  # which is all that a reseed is
    generator.generate(128)
    assert hexlify(generator.generate(128)).decode() == one["returned"]


class Shift:
    """The RP2040's 8-bit register, without noise (a model of rosc_random_u8)."""

    def __init__(self, bit):
        self.r = 1
        self.bit = bit

    def read(self, n):
        out = bytearray(n)
        for i in range(n):
            for _ in range(8):
                self.r = ((self.r << 1 | self.bit) ^ (0xD5 if self.r & 0x80 else 0)) & 0xFF
            out[i] = self.r
        return bytes(out)


for stuck in (bytes, Shift(0).read, Shift(1).read, lambda n: b"\x55\xaa" * (n // 2)):
    try:
        entropy.health_check(stuck)
    except EntropyError:
        continue
    raise AssertionError("stuck source accepted")
for _ in range(4):
    entropy.health_check()

generator = entropy.gather(b"seed")
key = keys.SoftwareKey.generate(generator)
again = keys.SoftwareKey.from_der(key.to_der(), generator)
assert again.spki() == key.spki() and again.matches(key.spki())
request = keys.csr(
    key, keys.device_subject("dev-1", "AB:01"), keys.device_san("t.example", "dev-1")
)
print(hexlify(key.to_der()).decode())
print(hexlify(request).decode())
