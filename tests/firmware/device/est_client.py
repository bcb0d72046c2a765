# Runs on a board: talks EST and prints how it ended, as a JSON list.
# argv: store root, base URL, timeout in ms, then what to do: "enrol", "renew", "cacerts" or
# "bootstrap" (fetch the anchors by root_sha256, then enrol), "patient-bootstrap" (the same,
# and once more with the same key when told to wait), "bootstrap-and-renew" (the same, and then
# another leaf for another key by the first one); then user and token.
import gc
import json
import sys

from mtls import cacerts, custody, est, pkcs7, rollover
from mtls.client import Session
from mtls.clock import now
from mtls.errors import MTLSError, Pending, Refused
from mtls.keys import SoftwareKey, csr, device_subject
from mtls.store import Store
from mtls.x509 import Certificate

root, url, timeout_ms, what, user, token = sys.argv[1:7]
store = Store(root)
key = SoftwareKey.generate(store.drbg())
request = csr(key, device_subject("d"))
try:
    if "bootstrap" in what:
        from mtls.anchors import fetch_by_fingerprint

        fetch_by_fingerprint(store, now(), int(timeout_ms))
    gc.collect()
    session = Session(url, store, None, timeout_ms=int(timeout_ms))
    if what == "cacerts":
        pieces = []
        cacerts.fetch(session, None, lambda: pieces.append)
        found = pkcs7.certificates(b"".join(pieces))
        outcome = [len(found), len(rollover.server_cas(found, store.roots(), now()))]
    elif what == "renew":
        outcome = ["leaf", len(est.simplereenroll(session, request, key.spki(), now()))]
    elif "patient" in what:
        try:
            est.simpleenroll(session, request, key.spki(), now(), user, token)
            outcome = ["not pending"]
        except Pending as error:
            leaf = est.simpleenroll(session, request, key.spki(), now(), user, token)
            outcome = ["pending", error.retry_after_s, "leaf", len(leaf)]
    else:
        leaf = est.simpleenroll(session, request, key.spki(), now(), user, token)
        outcome = ["leaf", len(leaf)]
    if what == "bootstrap-and-renew":
        session.close()
        custody.write_identity(store, "a", key.to_der(), leaf)
        custody.set_current(store, "a")
        key = SoftwareKey.generate(store.drbg())
        gc.collect()
        session = Session(url, store, timeout_ms=int(timeout_ms))
        request = csr(key, device_subject("d"))
        renewed = est.simplereenroll(session, request, key.spki(), now())
        outcome += ["renewed", Certificate(renewed).spki == key.spki()]
except Refused as error:
    outcome = ["Refused", error.status, error.type, error.retry_after_s]
except MTLSError as error:
    outcome = [type(error).__name__, error.args[0], error.retry_after_s]
print(json.dumps(outcome))
