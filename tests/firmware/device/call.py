# Makes calls with mtls.Session and prints how each ended, one JSON list a line.
# argv: store root, base URL, timeout in ms, calls ("GET", "POST", "POST!" for an idempotent one,
# "HUNG-UP" to wait until the peer has closed).
import json
import sys
import time

from mtls.client import Session
from mtls.errors import MTLSError, Refused
from mtls.store import Store

root, url, timeout_ms = sys.argv[1:4]
session = Session(url, Store(root), None, timeout_ms=int(timeout_ms))
for call in sys.argv[4:]:
    if call == "HUNG-UP":
        while not session._connection.stale():
            time.sleep_ms(1)
        continue
    start = time.ticks_ms()
    try:
        response = session.request(
            call.rstrip("!"),
            "/x",
            data=b"{}" if "POST" in call else None,
            idempotent=True if "!" in call else None,
        )
        response.raise_for_status()
        outcome = [response.status_code, response.text]
    except Refused as error:
        outcome = ["Refused", error.status, error.type, error.detail]
    except MTLSError as error:
        outcome = [type(error).__name__, str(error)]
    print(json.dumps([time.ticks_diff(time.ticks_ms(), start), outcome]))
