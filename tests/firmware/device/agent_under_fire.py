# An agent that enrols and then renews, at a server that misbehaves and comes to its senses.
# argv: store root, timeout in ms. Prints a JSON list: the events, and whether the leaf stayed in
# use, and of use, while its renewal failed.
import gc
import json
import sys
import time

import mtls

gc.threshold(8192)
mtls.preload()
from mtls.agent import Agent  # noqa: E402
from mtls.store import Store  # noqa: E402

events = []


def tell(event, facts):
    if event not in ("clock", "anchors"):
        events.append([event, dict(facts).get("kind") or dict(facts).get("status")])


def step():
    gc.collect()
    time.sleep_ms(min(agent.step(), 2000))


agent = Agent(Store(sys.argv[1]), on_event=tell, timeout_ms=int(sys.argv[2]))
# The time of the machine that this runs on; there is no time-stamp authority here.
agent.clock.believable = True
agent.clock.source = "tsa"
agent._resync = False
while not events or events[-1][0] not in ("enrolled", "recovered"):
    step()
agent.session.get("/v1/ping").raise_for_status()
slot = agent.active
kept = True
agent.renew()
told = len(events)
while events[-1][0] != "renewed":
    kept = kept and agent.active == agent.store.current() == slot
    if len(events) > told:
        told = len(events)
        agent.session.get("/v1/ping").raise_for_status()
    step()
agent.session.get("/v1/ping").raise_for_status()
print(json.dumps([events, kept and agent.active != slot]))
