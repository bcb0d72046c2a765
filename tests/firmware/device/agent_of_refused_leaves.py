# An agent whose leaves are refused when they are first used. argv: store root, timeout in ms, how
# many events of which name to wait for. Prints a JSON list: the ms of waiting before each.
import gc
import json
import sys
import time

import mtls

gc.threshold(8192)
mtls.preload()
from mtls.agent import Agent  # noqa: E402
from mtls.store import Store  # noqa: E402

waits = []
waited_ms = 0


def tell(event, _facts):
    global waited_ms
    if event == sys.argv[4]:
        waits.append(waited_ms)
        waited_ms = 0


store = Store(sys.argv[1])
agent = Agent(store, on_event=tell, timeout_ms=int(sys.argv[2]))
# The time of the machine that this runs on; there is no time-stamp authority here.
agent.clock.believable = True
agent.clock.source = "tsa"
agent._resync = False
while len(waits) < int(sys.argv[3]):
    gc.collect()
    wait_ms = agent.step()
    if agent.active:
        if not agent.session.get("/v1/ping").ok:
            continue  # as asyncio's agent does: at once
        if sys.argv[4] == "enrolled":
            store._write("secret.json", b'{"token": "another"}')  # the first is forgotten now
    waited_ms += wait_ms
    agent._issued_at = time.ticks_add(agent._issued_at, -wait_ms)  # as if it had gone by
print(json.dumps(waits))
