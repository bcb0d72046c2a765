# An agent whose clock is believable by a hint, and whose time-stamp authority does not answer for
# so many hours. argv: the store's root, the hours. Prints the moments of its questions until then,
# and those in the half hour after an answer, in seconds, as JSON.
import json
import sys

import mtls
from mtls import timekeeping, timesync
from mtls.agent import Agent
from mtls.errors import Unreachable
from mtls.store import Store


class Ticks:
    """MicroPython's `time`, as far as timekeeping uses it."""

    ms = 0

    @classmethod
    def ticks_ms(cls):
        return cls.ms

    @staticmethod
    def ticks_add(a, b):
        return a + b

    @staticmethod
    def ticks_diff(a, b):
        return a - b


asked = []
answers = False


def sync(_store, _clock, _end, _timeout_ms):
    asked.append(Ticks.ms // 1000)
    if not answers:
        raise Unreachable("silent")
    agent.clock.source = "tsa"
    return "tsa"


def questions(seconds):
    del asked[:]
    end = Ticks.ms + seconds * 1000
    while Ticks.ms < end:
        timekeeping.keep_time(agent)
        Ticks.ms += 1000
    return asked[:]


timekeeping.time = Ticks
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
