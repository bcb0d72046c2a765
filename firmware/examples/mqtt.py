# MQTT over mutual TLS: umqtt.simple brings the protocol, the board its certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""`mpremote mip install umqtt.simple` first. The broker trusts the `device` CA and asks for a
certificate; its own is from the `server` CA. With mosquitto, and `device` CA and root in one file:

    listener 8883
    cafile device-ca-and-root.pem
    certfile broker.pem
    keyfile broker.key
    require_certificate true
    use_identity_as_username true
"""

from umqtt.simple import MQTTClient

import mtls
from mtls import net, ssl

BROKER = "broker.example"
PORT = 8883


def ready():
    """Return the store of a board that is on its network and knows the time."""
    from mtls.clock import Clock
    from mtls.timesync import sync  # here: a module that nobody holds makes room for TLS

    store = mtls.Store()
    net.up(store)
    sync(store, Clock(store))
    return store


def connect(store, host, port):
    """Return a connected client; a new one is needed for a renewed certificate."""
    # umqtt.simple passes `server_hostname`, and the context verifies it.
    client = MQTTClient(store.config()["device_id"], host, port, ssl=ssl.context(store))
    client.connect()
    return client


def report(client, store, payload):
    client.publish(b"devices/%s/telemetry" % store.config()["device_id"].encode(), payload)


def main(host=BROKER, port=PORT):
    store = ready()
    client = connect(store, host, port)
    report(client, store, b'{"uptime": 1}')
    client.disconnect()


if __name__ == "__main__":
    main()
