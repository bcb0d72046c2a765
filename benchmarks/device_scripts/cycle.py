# A board's life in one heap: enrol, argv[2] calls, renew, one more call. argv[1]: store.
import gc
import sys

gc.threshold(gc.mem_free() // 16)  # as boot.py has it
import mtls

mtls.preload()
from mtls.agent import Agent
from mtls.store import Store

agent = Agent(Store(sys.argv[1]))


def step_until(done):
    for _ in range(50):
        agent.step()
        if done():
            return
    # An agent goes on after an error; the benchmark wants to know what it was.
    if dict(agent.last_error or ()).get("kind") == "OutOfMemory":
        raise MemoryError(agent.last_error)
    raise RuntimeError("no progress", agent.last_error)


step_until(lambda: agent.active)
for number in range(int(sys.argv[2])):
    report = {"boot_id": "bench", "seq": number, "values": {"heap_free": gc.mem_free()}}
    path = "/v1/devices/" + agent.store.config()["device_id"] + "/telemetry"
    agent.session.post(path, json=report, idempotent=True).raise_for_status()
first = agent.active
agent.renew()
step_until(lambda: agent.active != first)
agent.session.get("/v1/ping").raise_for_status()
