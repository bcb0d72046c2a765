# Makes as many keys with their CSRs as argv[1] says, after what comes before the first.
import sys

from mtls.entropy import gather
from mtls.keys import SoftwareKey, csr, device_san, device_subject

drbg = gather(bytes(32))
for _ in range(int(sys.argv[1])):
    key = SoftwareKey.generate(drbg)
    csr(key, device_subject("bench", "0011223344556677"), device_san("bench.example", "bench"))
