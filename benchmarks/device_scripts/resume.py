# Connections one after another, each closed before the next. argv: store, base URL, how many,
# "resumed" or "full", and "get" for a request on each.
import sys

store, url, connections, kind = sys.argv[1:5]
if kind == "resumed":
    import resumption
import mtls

mtls.preload()  # compiling is not calling
from mtls.store import Store

session = mtls.Session(url, Store(store))
resumed = 0
for _ in range(int(connections)):
    session.connect()
    if sys.argv[5:] == ["get"]:
        session.get("/v1/ping").raise_for_status()
    session.close()
    resumed += kind == "resumed" and resumption.resumed
print(resumed)
