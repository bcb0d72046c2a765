# Joins Wi-Fi through a model of the radio. argv: config.json's networks, the networks in reach
# with their passwords, the SSID that is busy (connect() raises OSError), all as JSON.
# Prints what up() returned or raised, then which networks were tried.
import json
import sys

sys.path.append(__file__.rsplit("/", 2)[0])
from mtls import net
from mtls.errors import Unreachable
from network_model import ClockModel

configured, in_reach, busy = [json.loads(text) for text in sys.argv[1:4]]
tried = []


class WlanModel:
    def __init__(self, _interface):
        self.joined = None

    def active(self, _on):
        pass

    def isconnected(self):
        return self.joined is not None

    def config(self, _name):
        return self.joined

    def connect(self, ssid, password):
        tried.append(ssid)
        if ssid == busy:
            raise OSError("Wifi Internal State Error")
        if ssid in in_reach and in_reach[ssid] == password:
            self.joined = ssid

    def disconnect(self):
        pass


class NetworkModel:
    STA_IF = 0
    station = WlanModel(0)

    @classmethod
    def WLAN(cls, _interface):
        return cls.station


class Store:
    def config(self):
        return {"networks": configured}

    def wifi_password(self, ssid):
        return "password of " + ssid


sys.modules["network"] = NetworkModel
net.time = ClockModel()  # sleeping is all that makes time pass
for _ in range(2):  # the second time it is still joined, or it still is not
    try:
        print(net.up(Store()))
    except Unreachable as error:
        print(error)
print(json.dumps(tried))
