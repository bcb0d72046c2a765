# An agent with a clock chip. argv: what the chip says and where the leaf ends, as "floor+seconds",
# and the store's root. Prints what the agent believes of it while its time-stamp authority is
# silent, and whether signed time then sets the chip, as JSON.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
import machine
import mtls
from ds3231_model import Ds3231Model
from mtls import clock as clocks
from mtls import timekeeping, timesync
from mtls.agent import Agent
from mtls.errors import Unreachable
from mtls.store import Store

FLOOR = clocks.BUILD_TIME + 1000
chip = Ds3231Model(FLOOR + int(sys.argv[1][5:]), stopped=False)


class MachineModel:
    @staticmethod
    def Pin(number):
        return number

    @staticmethod
    def I2C(_bus, **_pins):
        return chip

    RTC = machine.RTC


def silent(*_):
    raise Unreachable("silent")


def signed(_store, clock, _end, _timeout_ms):
    clock.accept_signed(FLOOR + 50)
    return "tsa"


sys.modules["machine"] = MachineModel
mtls.preload()
timekeeping.make_room = lambda: None  # which would unload timesync
timesync.sync = silent
store = Store(sys.argv[3])
store.write_floor(FLOOR)
store.has_anchor = lambda: True
store.slots = lambda: {"a": (FLOOR - 60, FLOOR + int(sys.argv[2][5:]))}
agent = Agent(store)
try:
    timekeeping.keep_time(agent)
except Unreachable:  # it has no time to go on with
    assert not agent.clock.believable
found = {"believed": agent.clock.believable, "source": agent.clock.source}
found["floor_rose"] = agent.clock.floor() != FLOOR
timesync.sync = signed
agent._resync = True
timekeeping.keep_time(agent)
found["set_after_signed_time"] = bool(chip.set_to) and abs(chip.unix - FLOOR - 50) <= 2
print(json.dumps(found))
