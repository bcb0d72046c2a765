# The whole application with a watchdog, over the model's time. argv: its folder; the board's, which
# holds its config.json and life.json: what happens, [[s, what changes in `world`], ...], until when
# in s, whether the port lets a program start its watchdog a second time. The last line that it
# prints is JSON: at which second the board is reset or null, how often WDT and Timer were made, how
# often the application was run, how many reports were taken.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
import network_model

sys.modules["network"] = sys.modules["machine"] = network_model
sys.path.append(sys.argv[1])
import main  # noqa: E402
from mtls import agent, errors, net, store, watchdog  # noqa: E402

root = sys.argv[2]
with open(root + "/life.json") as file:  # noqa: PTH123 (MicroPython)
    happenings, until_s, again = json.load(file)
network_model.WDT.once = not again
world = {
    "config": True,  # whether it can be read
    "network": True,
    "agent": True,  # whether one can be made
    "step": True,  # False: its steps raise, which ends a run
    "leaf": True,
    "reports": True,  # whether the gateway takes them
}
runs = taken = 0


class Over(BaseException):
    """Neither the application nor the library catches it."""


class Clock(network_model.ClockModel):
    def sleep_ms(self, ms):
        """The timers' callbacks come meanwhile, as they do while other code runs."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, (self.now_ms // 1000 + 1) * 1000)
            if self.now_ms % 1000 == 0:
                self._second(self.now_ms // 1000)

    def _second(self, now_s):
        while happenings and happenings[0][0] <= now_s:
            change(happenings.pop(0)[1])
        for timer in network_model.Timer.started:
            assert timer.period == 1000
            timer.callback(timer)
        dog = network_model.WDT.running
        if now_s >= until_s or (dog and dog.bitten()):
            raise Over


def change(what):
    world.update(what)
    network_model.air.in_reach = {"home": "password"} if world["network"] else {}


class Store(store.Store):
    def __init__(self):
        global runs
        runs += 1
        super().__init__(root)

    def config(self):
        if not world["config"]:
            raise errors.StoreDamaged("cannot read /mtls/config.json", 5)
        return super().config()

    def wifi_password(self, _ssid):
        return "password"

    def fingerprints(self):
        return {}


class Answer:
    status_code = 201

    def raise_for_status(self):
        pass


class Session:
    connections = 1
    handshake_ms = 12

    def get(self, _path):
        if not world["reports"]:
            raise errors.Unreachable("gone")
        return Answer()

    def post(self, path, **_):
        global taken
        answer = self.get(path)
        taken += 1
        return answer


class Agent:
    not_before = 1

    def __init__(self, store, **_):
        if not world["agent"]:
            raise errors.EntropyError("the random source repeats itself")
        self.store = store
        self.session = Session()
        self.clock = self
        self.believable = True
        self.active = None

    def step(self):
        if not world["step"]:
            raise MemoryError
        self.active = "a" if world["leaf"] else None
        return 15000


clock = network_model.clock = Clock()
main.time = net.time = watchdog.time = clock
store.Store, agent.Agent = Store, Agent
change({})
while happenings and happenings[0][0] == 0:
    change(happenings.pop(0)[1])
try:  # noqa: SIM105 (MicroPython)
    main.main()
except Over:
    pass
dog = network_model.WDT.running
reset_at = clock.now_ms // 1000 if dog and dog.bitten() else None
made = network_model.WDT.made, len(network_model.Timer.started)
print(json.dumps([reset_at, made, runs, taken]))
