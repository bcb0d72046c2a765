# Runs on a board: how long the agent waits after each failure, in ms, as a JSON list.
# argv: store root (a configuration is there), then seconds that a server asked to be left alone.
import json
import sys

from mtls.agent import Agent
from mtls.errors import Pending, Unreachable
from mtls.store import Store

agent = Agent(Store(sys.argv[1]))
failures = [Unreachable("gone")]
for text in sys.argv[2:]:
    failures.append(Pending("later"))
    failures[-1].retry_after_s = int(text)


def fail():
    raise failures.pop(0)


agent._advance = fail
print(json.dumps([agent.step() for _ in range(len(failures))]))
