# An agent with a clock chip. argv: what the chip says and where the leaf ends, as "floor+seconds",
# and the store's root. Prints what the agent believes of it, and whether signed time then sets
# the chip, as JSON.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
import machine
from ds3231_model import Ds3231Model
from mtls import clock as clocks
from mtls.agent import Agent
from mtls.store import Store
from mtls.timekeeping import with_chip

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


sys.modules["machine"] = MachineModel
store = Store(sys.argv[3])
store.write_floor(FLOOR)
agent = Agent(store)
with_chip(agent, FLOOR + int(sys.argv[2][5:]))
found = {"believed": agent.clock.believable, "source": agent.clock.source}
found["floor_rose"] = agent.clock.floor() != FLOOR
agent.clock.accept_signed(FLOOR + 50)
with_chip(agent, None)
found["set_after_signed_time"] = bool(chip.set_to) and abs(chip.unix - FLOOR - 50) <= 2
print(json.dumps(found))
