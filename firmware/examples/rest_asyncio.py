# A REST API over mutual TLS while other tasks go on
# MIT license; Copyright (c) 2026 the Handfast authors

import asyncio

import mtls
import mtls.aio
from mtls import net


def ready():
    """Return the store of a board that is on its network and knows the time."""
    from mtls.clock import Clock
    from mtls.timesync import sync  # here: a module that nobody holds makes room for TLS

    store = mtls.Store()
    net.up(store)
    sync(store, Clock(store))
    return store


async def blink():
    while True:
        await asyncio.sleep_ms(100)  # toggle a LED here


async def main():
    store = ready()
    task = asyncio.create_task(blink())
    async with mtls.aio.Session(store.config()["api_url"], store, timeout_ms=20000) as session:
        response = await session.get("/v1/ping")
        response.raise_for_status()
        print(response.json()["device_id"])

        total = 0
        async with await session.get("/v1/devices/me", stream=True) as response:
            async for piece in response.iter_content(256):
                total += len(piece)
        print(total)
    task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
