# ruff: noqa: E402  (the threshold comes before what it is for)
"""Runs on a board: renews again and again, and prints the largest piece of free heap each time.

argv: store, renewals. A line: which renewal, the largest piece, all that is free; in bytes.
"""

import gc
import sys

gc.threshold(8192)  # as boot.py has it
import mtls

mtls.preload()
from mtls.agent import Agent
from mtls.heap import make_room
from mtls.store import Store

# The proof of a leaf waits 300 ms for a refusal, which is not what this is about.
Agent.prove_ms = 1


def largest_piece():
    make_room()
    low, high = 0, gc.mem_free()
    while high - low > 256:
        middle = (low + high) // 2
        try:
            bytearray(middle)
            low = middle
        except MemoryError:
            high = middle
        gc.collect()
    return low


agent = Agent(Store(sys.argv[1]), on_event=lambda name, facts: name == "error" and print(facts))
while agent.active is None:
    agent.step()
agent.session.get("/v1/ping").raise_for_status()
for number in range(int(sys.argv[2])):
    agent.session.close()
    print(number, largest_piece(), gc.mem_free())
    before = agent.active
    agent.renew()
    while agent.active == before:
        agent.step()
    agent.session.get("/v1/ping").raise_for_status()
