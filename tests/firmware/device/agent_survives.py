# An agent that meets what the library does not raise on purpose, in its own work and while it asks
# for a window. argv: store root, "step" or "run", and "raises" if the application's on_event does.
# Prints a JSON list: what was told, and whether the agent went on until all was well again.
import json
import sys

import mtls

mtls.preload()
from mtls.store import Store  # noqa: E402

MISHAPS = (MemoryError(), OSError(5), OSError(12), ValueError("odd"), KeyError("k"))
told = []


def tell(event, facts):
    told.append([event, dict(facts)["kind"]])
    if sys.argv[3:]:
        raise ValueError("the application's own")


def in_turn(result):
    """Return a function that fails in each way in turn, and then returns the result."""
    left = list(MISHAPS)

    def call(*_):
        if left:
            raise left.pop(0)
        return result

    return call


class NoWindow:
    status_code = 404
    ok = False


def out_of_heap():
    raise MemoryError()


def steps():
    from mtls import window

    agent = mtls.Agent(Store(sys.argv[1]), on_event=tell)
    agent._advance = in_turn(1000)
    drbg = agent.store.drbg
    agent.store.drbg = out_of_heap  # not even the backoff's jitter can be drawn
    waits = [agent.step() for _ in MISHAPS]
    agent.store.drbg = drbg
    agent.session.get = in_turn(NoWindow)
    agent._ask_at = 0
    while agent._ask_at is not None:  # which is what the answer leads to
        window.ask(agent)
    return min(waits) >= 500 and agent.step() == 1000 and agent.failures == 0


async def runs(asyncio, agent):
    answer = in_turn(NoWindow)

    async def get(_path):
        return answer()

    agent._advance = in_turn(1000)
    agent.session.get = get
    agent._ask_at = 0
    agent._asking = True
    agent._random_octet = lambda: 0
    task = asyncio.create_task(agent.run())
    for _ in range(2 * len(MISHAPS)):
        agent._hurry.set()  # instead of the backoff
        await asyncio.sleep_ms(20)
        agent._asking = agent._ask_at is not None
        if task.done():
            return False
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return agent._ask_at is None and agent.failures == 0
    return False


def go():
    if sys.argv[2] == "step":
        return steps()
    import asyncio

    from mtls.aio import Agent

    return asyncio.run(runs(asyncio, Agent(Store(sys.argv[1]), on_event=tell)))


well = go()
print(json.dumps([told, well]))
