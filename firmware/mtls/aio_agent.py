# Handfast mTLS for MicroPython: the agent for asyncio
# MIT license; Copyright (c) 2026 the Handfast authors
"""`session` is an mtls.aio.Session; `await run()` in a task of its own does the rest.

The agent's own work is mtls.Agent's, and blocks: once or twice a leaf's life no other task runs for
as long as making a key, asking EST and two handshakes take (seconds on a Pico W). It starts between
two requests of the session, never within one.
"""

import asyncio

from . import agent, aio


class Agent(agent.Agent):
    """As mtls.Agent; use `await run()` in place of `step()`."""

    session_class = aio.Session
    _asking = False

    def __init__(self, *arguments, **options):
        self._hurry = asyncio.Event()
        super().__init__(*arguments, **options)

    def renew(self):
        super().renew()
        self._hurry.set()

    def _drop(self):
        super()._drop()
        self._hurry.set()

    async def run(self):
        """Keep time and identity until this task is cancelled."""
        while True:
            self._hurry.clear()
            async with self.session._lock:  # between two requests: there is one TLS session
                wait_ms = self.step()
            if self._asking:
                self._asking = False
                from .window import ask_async

                await ask_async(self)
            try:
                await asyncio.wait_for_ms(self._hurry.wait(), max(1, wait_ms))
            except asyncio.TimeoutError:
                pass

    def _ask_window(self):
        self._asking = True  # run() does, once this step is over
