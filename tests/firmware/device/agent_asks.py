# An agent asks for a window and is answered what its heap cannot hold. argv: store root, timeout in
# ms, "step" or "run". Prints a JSON list: what was told, and whether the agent went on.
import gc
import json
import sys
import time

import mtls

gc.threshold(8192)
mtls.preload(*(("aio", "aio_agent") if sys.argv[3] == "run" else ()))
from mtls.store import Store  # noqa: E402

_ANSWER_BYTES = 15900
told = []


def tell(event, facts):
    told.append([event, dict(facts).get("kind")])


def made(agent_class):
    agent = agent_class(Store(sys.argv[1]), on_event=tell, timeout_ms=int(sys.argv[2]))
    # The time of the machine that this runs on; there is no time-stamp authority here.
    agent.clock.believable = True
    agent.clock.source = "tsa"
    agent._resync = False
    while not agent.active:
        gc.collect()
        time.sleep_ms(min(agent.step(), 1000))
    return agent


def fill():
    """Return what leaves no piece of the heap for the answer, but all the smaller ones."""
    gc.collect()
    held = None
    try:
        while True:
            held = (held, bytearray(_ANSWER_BYTES))
    except MemoryError:
        return held


def steps():
    agent = made(mtls.Agent)
    agent.session.get("/v1/ping").raise_for_status()
    agent._ask_at = time.ticks_ms()
    held = fill()
    agent.step()
    failures = agent.failures  # none: a question is not the agent's own work
    del held
    gc.collect()
    agent.session.get("/v1/ping").raise_for_status()
    agent.step()
    return agent.active is not None and agent.failures == failures == 0


async def runs(asyncio, agent):
    (await agent.session.get("/v1/ping")).raise_for_status()
    agent._ask_at = time.ticks_ms()
    held = fill()
    task = asyncio.create_task(agent.run())
    while agent.last_error is None and not task.done():
        await asyncio.sleep_ms(10)
    del held
    gc.collect()
    (await agent.session.get("/v1/ping")).raise_for_status()
    return not task.done() and agent.active is not None and agent.failures == 0


def go():
    if sys.argv[3] == "step":
        return steps()
    import asyncio

    from mtls.aio import Agent

    return asyncio.run(runs(asyncio, made(Agent)))


went_on = go()
print(json.dumps([told, went_on]))
