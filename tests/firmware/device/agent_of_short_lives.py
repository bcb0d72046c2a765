# An agent that is issued leaves which end at once, until one lasts. argv: store root, timeout_ms.
# Prints a JSON list: the events, and the ms until then.
import gc
import json
import sys
import time

import mtls

gc.threshold(8192)
mtls.preload()
from mtls.agent import Agent  # noqa: E402
from mtls.clock import now  # noqa: E402
from mtls.store import Store  # noqa: E402

events = []


def tell(event, facts):
    if event != "clock":
        events.append([event, dict(facts).get("kind") or dict(facts).get("status")])


agent = Agent(Store(sys.argv[1]), on_event=tell, timeout_ms=int(sys.argv[2]))
# The time of the machine that this runs on; there is no time-stamp authority here.
agent.clock.believable = True
agent.clock.source = "tsa"
agent._resync = False
began = time.ticks_ms()
while not agent.active or agent.not_after < now() + 60:
    gc.collect()
    time.sleep_ms(max(1, min(agent.step(), 200)))
print(json.dumps([events, time.ticks_diff(time.ticks_ms(), began)]))
