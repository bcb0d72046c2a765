# Runs the application's Reporter against a session that plays a list of outcomes.
# argv: folder of the application, telemetry_interval_s, outcomes as JSON: a name of an error, or
# the JSON that an answer holds, "renewed" if the board has a new leaf then. Prints [wait in ms,
# calls made] of each step, as JSON; with one more argument, at the end what each call said of the
# trust anchors.
import json
import sys

sys.path.append(sys.argv[1])
import main
from mtls import errors

main.say = lambda *_: None
outcomes = json.loads(sys.argv[3])
calls = []
anchors = []  # what each call said of them


class Answer:
    status_code = 200

    def __init__(self, value):
        self.value = value

    def json(self):
        return self.value

    def raise_for_status(self):
        if self.value == "Refused":
            raise errors.Refused(403, "urn:handfast:error:device-revoked")


class Session:
    connections = 1
    handshake_ms = 12

    def get(self, path):
        return self.post(path)

    def post(self, path, json=None, **_):
        calls.append([path, json and json["seq"]])
        anchors.append(json and json.get("anchors"))
        outcome = outcomes.pop(0)
        if outcome == "renewed":
            Agent.not_before += 1
        if outcome == "MemoryError":
            raise MemoryError
        if outcome == "Unreachable":
            raise errors.Unreachable("gone")
        return Answer(outcome)


class Store:
    def fingerprints(self):
        return {"tls": ["t"], "root": ["r"]}


class Agent:
    session = Session()
    store = Store()
    not_before = 1


config = {"device_id": "d", "telemetry_interval_s": int(sys.argv[2])}
reporter = main.Reporter(Agent, config, "b")
while outcomes:
    del calls[:]
    wait_ms = reporter.step()
    print(json.dumps([wait_ms, calls]))
if len(sys.argv) > 4:
    print(json.dumps(anchors))
