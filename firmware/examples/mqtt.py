# MQTT over mutual TLS: umqtt.simple brings the protocol, the board its certificate
# MIT license; Copyright (c) 2026 the Handfast authors
"""`mpremote mip install umqtt.simple` first. The broker trusts the `device` CA and asks for a
certificate; its own is from the `server` CA. With mosquitto:

    listener 8883
    cafile device-ca.pem
    certfile broker.pem
    keyfile broker.key
    require_certificate true
    use_identity_as_username true
"""

from umqtt.simple import MQTTClient

import mtls
from mtls import ssl

BROKER = "broker.example"
PORT = 8883


def connect(store, host=BROKER, port=PORT):
    """Return a connected client; a new one is needed for a renewed certificate."""
    # umqtt.simple passes `server_hostname`, and the context verifies it.
    client = MQTTClient(store.config()["device_id"], host, port, ssl=ssl.context(store))
    client.connect()
    return client


def report(client, store, payload):
    client.publish(b"devices/%s/telemetry" % store.config()["device_id"].encode(), payload)


def main():
    store = mtls.Store()
    client = connect(store)
    report(client, store, b'{"uptime": 1}')
    client.disconnect()


if __name__ == "__main__":
    main()
