# ruff: noqa: E402, PTH107, PTH123, PTH208  (MicroPython; it has to find the counting tls first)
"""Runs on a board: its whole cycle, with every TLS session counted where the firmware opens it.

argv: store, "blocking" or "aio". Prints a JSON dict: how many TLS sessions there were, how many of
them at once at most, and what the agent told.
"""

import json
import os
import sys
import time

import tls

opened = open_now = most = 0


class Stream:
    """What the library asks of a TLS stream."""

    def __init__(self, stream):
        self._stream = stream
        self.write = stream.write
        self.readinto = stream.readinto

    def close(self):
        global open_now
        if self._stream is not None:
            open_now -= 1
            self._stream.close()
            self._stream = None


def passed(name):
    return property(
        lambda self: getattr(self._context, name),
        lambda self, value: setattr(self._context, name, value),
    )


class Context:
    """A tls.SSLContext that counts: a session is one from before its handshake on."""

    verify_mode = passed("verify_mode")
    verify_callback = passed("verify_callback")

    def __init__(self, protocol):
        self._context = tls.SSLContext(protocol)

    def __getattr__(self, name):
        return getattr(self._context, name)

    def wrap_socket(self, wire, **how):
        global opened, open_now, most
        opened += 1
        open_now += 1
        most = max(most, open_now)
        try:
            return Stream(self._context.wrap_socket(wire, **how))
        except BaseException:
            open_now -= 1
            raise


class Tls:
    SSLContext = Context

    def __getattr__(self, name):
        return getattr(tls, name)


sys.modules["tls"] = Tls()

import mtls
from mtls.agent import Agent
from mtls.store import Store

told = []


def tell(event, facts):
    told.append(event if event not in ("error", "refused") else [event, facts])


def step_until(agent, done):
    for _ in range(400):
        wait_ms = agent.step()
        if done():
            return
        time.sleep_ms(min(wait_ms, 50))
    raise RuntimeError(f"no progress: {told}")


def lose_anchors(store):
    """As after a damaged block: the next look at the time has to fetch them again."""
    for name in os.listdir(store.root + "/anchor"):
        os.remove(store.root + "/anchor/" + name)


def blocking(store):
    agent = Agent(store, on_event=tell)
    step_until(agent, lambda: agent.active)
    ping(agent)
    # While a body is read piece by piece nothing else begins.
    with agent.session.get("/v1/devices/me", stream=True) as response:
        agent.renew()
        agent.step()
        response.json()
    # With the connection open, and not an anchor left.
    ping(agent)
    lose_anchors(store)
    agent.clock.source = "ntp"
    step_until(agent, store.has_anchor)
    # And a renewal, in which the server's CA certificates are asked for.
    for _ in range(2):
        ping(agent)
        before = agent.active
        agent.renew()
        step_until(agent, lambda before=before: agent.active != before)
    # The newest leaf is damaged: the agent proves the one before.
    ping(agent)
    with open(store.root + "/slot-" + agent.active, "r+b") as file:
        file.write(b"damaged")
    agent.session.close()
    agent = Agent(store, on_event=tell)
    step_until(agent, lambda: agent.active)
    ping(agent)
    agent.session.close()


def ping(agent):
    agent.session.get("/v1/ping").raise_for_status()


def aio(store):
    import asyncio

    from mtls.aio import Agent

    async def until(done):
        for _ in range(4000):
            if done():
                return
            await asyncio.sleep_ms(5)
        raise RuntimeError(f"no progress: {told}")

    async def requests(agent, number):
        for _ in range(number):
            await until(lambda: agent.active)
            try:
                (await agent.session.get("/v1/ping")).raise_for_status()
            except mtls.MTLSError as error:
                told.append(repr(error))

    async def main():
        agent = Agent(store, on_event=tell)
        running = asyncio.create_task(agent.run())
        await requests(agent, 1)
        for lose in (None, lose_anchors):
            if lose:
                lose(store)
                agent.clock.source = "ntp"
            before = agent.active
            agent.renew()
            tasks = [asyncio.create_task(requests(agent, 10)) for _ in range(3)]
            await until(lambda before=before: agent.active != before)
            await asyncio.gather(*tasks)
        running.cancel()
        agent.session.close()

    asyncio.run(main())


{"blocking": blocking, "aio": aio}[sys.argv[2]](Store(sys.argv[1]))
print(json.dumps({"opened": opened, "most": most, "left": open_now, "told": told}))
