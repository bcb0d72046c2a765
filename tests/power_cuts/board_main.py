"""What boards here run in place of the application: the application, its flash operations counted.

It is /main.py, with the real one beside it as /app.py. A leaf that /due names (by its notBefore) is
due for renewal, as any leaf is at two thirds of its life: its successor is not. What the clock
shows as the power comes says what else a boot is for.
"""

QUIET_AT = 1_100_000_000
DECOMMISSION_AT = 1_200_000_000

MAIN = f"""
import os
import _sim
import app
from mtls import clock

_say, _start = app.say, app.start
_woke = clock.now()

def _since(moment):
    return 0 <= _woke - moment < 60

def say(event, facts=()):
    counted = ("flash_ops", _sim.flash_ops()), ("erasures", _sim.flash_erasures())
    _say(event, tuple(facts) + counted)

def _let_the_leaf_be_due():
    try:
        with open("/due") as file:
            due = int(file.read())
    except OSError:
        return
    from mtls.agent import Agent
    step = Agent.step
    def step_and_renew(agent):
        if agent.active:
            newest = agent.not_before
        else:
            newest = max([facts[0] for facts in agent.store.slots().values() if facts] + [0])
        if newest == due:
            agent.renew()
        return step(agent)
    Agent.step = step_and_renew

def start(store):
    _let_the_leaf_be_due()
    return _start(store)

app.say, app.start = say, start
if _since({DECOMMISSION_AT}):
    from mtls.store import Store
    Store().decommission()
    say("decommissioned")
elif not _since({QUIET_AT}):
    say("woke", (("tombstone", "mtls.erase" in os.listdir("/")),))
    app.main()
"""

OLD_APPLICATION = """
import time
while True:
    print("the old application runs")
    time.sleep_ms(100)
"""
