# Runs on CPython and on a board: certificates, PKCS#7, time-stamps and the calendar.
# ruff: noqa: PTH123, PT018  (MicroPython has no pathlib and no pytest)
import json
import sys
import time
from binascii import unhexlify

from mtls import clock, pkcs7, tsp, utc, x509
from mtls.errors import MTLSError, Untrusted

with open(sys.argv[1]) as file:
    given = json.load(file)

parsed = []
for one in given["certificates"]:
    certificate = x509.Certificate(unhexlify(one["der"]))
    parsed.append(certificate)
    assert certificate.serial == int(one["serial"], 16)
    assert certificate.not_before == one["not_before"]
    assert certificate.not_after == one["not_after"]
    assert certificate.is_ca == one["is_ca"]
    assert certificate.path_length == one["path_length"]
    assert certificate.eku == tuple(one["eku"])

root, server = parsed[0], parsed[1]
now = given["now"]
assert root.signed_by(root) and server.signed_by(root)
assert not root.signed_by(server)
assert x509.check_tls_anchor(server.der, [root.der], now).serial == server.serial
altered = bytearray(server.der)
altered[-1] ^= 1
try:
    x509.check_tls_anchor(bytes(altered), [root.der], now)
    raise AssertionError("altered anchor accepted")
except Untrusted:
    pass

assert pkcs7.certificates(unhexlify(given["pkcs7"])) == [root.der, server.der]

reply, imprint = unhexlify(given["reply"]), unhexlify(given["imprint"])
nonce = int(given["nonce"], 16)
assert tsp.verify(reply, nonce, imprint, [server.der], 0) == given["gen_time"]
for size in range(0, len(reply), 7):
    try:
        tsp.verify(reply[:size], nonce, imprint, [server.der], 0)
        raise AssertionError("cut reply accepted")
    except MTLSError:
        pass

for unix, civil in given["calendar"]:
    assert utc.to_unix(*civil[:6]) == unix
    assert list(clock.to_civil(unix)) == civil

# The board's own time.gmtime() agrees, whatever its epoch.
sample = 1795492904
epoch = utc.to_unix(time.gmtime(0)[0], 1, 1)
assert tuple(time.gmtime(sample - epoch))[:6] == clock.to_civil(sample)[:6]
