# An agent whose clock is believable by a hint, and whose time-stamp authority does not answer for
# so many hours. argv: the store's root, the hours. Prints the moments of its questions until then,
# and those in the half hour after an answer, in seconds, as JSON.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
import mtls
from mtls import timekeeping, timesync
from mtls.agent import Agent
from mtls.errors import Unreachable
from mtls.store import Store
from network_model import ClockModel

clock = ClockModel()
asked = []
answers = False


def sync(_store, _clock, _end, _timeout_ms):
    asked.append(clock.now_ms // 1000)
    if not answers:
        raise Unreachable("silent")
    agent.clock.source = "tsa"
    return "tsa"


def questions(seconds):
    del asked[:]
    end = clock.now_ms + seconds * 1000
    while clock.now_ms < end:
        timekeeping.keep_time(agent)
        clock.now_ms += 1000
    return asked[:]


timekeeping.time = clock
timekeeping.make_room = lambda: None  # which would unload timesync
timesync.sync = sync
store = Store(sys.argv[1])
store.has_anchor = lambda: True
agent = Agent(store)
agent._resync_at = 0
agent.clock.believable = True
agent.clock.source = "ntp"
mtls.preload()
silent = questions(int(sys.argv[2]) * 3600)
answers = True
questions(1000)
answers = False
agent.clock.source = "ntp"
print(json.dumps([silent, questions(1800)]))
