# A board's networks, over the model's time. argv, as JSON: config.json's networks; what happens,
# [[ms, SSIDs in reach with their passwords, whether the cable is in], ...]; until when, ms.
# Prints a JSON list: [[ms, name], ...] of each change, what was tried, and how the radio's power
# saving was before, during and after a handshake on the last network.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
import network_model

sys.modules["network"] = sys.modules["machine"] = network_model
from mtls import net, tls  # noqa: E402

clock, air = network_model.clock, network_model.air
net.time = clock
networks, happenings, until_ms = [json.loads(text) for text in sys.argv[1:4]]


class Store:
    def config(self):
        return {"networks": networks}

    def wifi_password(self, ssid):
        return "password of " + ssid


network = net.Network(Store())
changes = []
name = None
while clock.now_ms < until_ms:
    while happenings and happenings[0][0] <= clock.now_ms:
        _, air.in_reach, air.cable = happenings.pop(0)
    wait_ms = network.step()
    if network.name != name:
        name = network.name
        changes.append([clock.now_ms, name])
    clock.now_ms += wait_ms
pm = [network_model.WLAN(0).pm]
if tls.awake:
    for on in (True, False):
        tls.awake(on)
        pm.append(network_model.WLAN(0).pm)
print(json.dumps([changes, air.tried, pm]))
