# Runs on CPython and on a board: asks the NTP server at argv[1] for at most argv[2] ms.
import sys

from mtls import ntp
from mtls.errors import MTLSError

try:
    print(ntp.query("127.0.0.1", int(sys.argv[1]), int(sys.argv[2])))
except MTLSError as error:
    print(type(error).__name__)
