# Enrols the board whose files are in argv[1], and confirms its leaf by a first call.
import sys

from mtls.agent import Agent
from mtls.store import Store

agent = Agent(Store(sys.argv[1]), on_event=print)
for _ in range(20):
    agent.step()
    if agent.active:
        break
agent.session.get("/v1/ping").raise_for_status()
