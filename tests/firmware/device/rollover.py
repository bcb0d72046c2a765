# Runs on a board: asks an EST server for its CA certificates and does what they say.
# argv: store root, base URL. Prints what is held then, how many were added and dropped, as JSON.
import json
import sys

from mtls import cacerts, rollover
from mtls.client import Session
from mtls.clock import now
from mtls.errors import MTLSError
from mtls.store import Store
from mtls.witness import Witness

root, url = sys.argv[1:3]
store = Store(root)
session = Session(url, store, None)
session.pins = Witness()
facts = {}
try:
    cacerts.ask(session, store)
    session.close()
    if store.cacerts_are_new():
        facts = dict(rollover.follow(store, now()))
except MTLSError:
    session.close()
held = store.fingerprints()
for kind in held:
    held[kind].sort()
print(json.dumps([held, facts.get("added", 0), facts.get("dropped", 0)]))
