# A REST API over mutual TLS, as one would call it with `requests`
# MIT license; Copyright (c) 2026 the Handfast authors
"""For a board that is enrolled already, by the application of `handfast provision` for one. An
Agent does that and renews the leaf: see deep_sleep.py."""

import mtls
from mtls import net


def ready():
    """Return the store of a board that is on its network and knows the time."""
    from mtls.clock import Clock
    from mtls.timesync import sync  # here: a module that nobody holds makes room for TLS

    store = mtls.Store()
    net.up(store)
    sync(store, Clock(store))
    return store


def main():
    """Show what a Session does; the gateway is the one that the board was provisioned for."""
    store = ready()
    config = store.config()
    telemetry = "/v1/devices/%s/telemetry" % config["device_id"]
    with mtls.Session(config["api_url"], store, retries=2) as session:
        response = session.get("/v1/ping")
        response.raise_for_status()
        print(response.json()["device_id"])

        # The gateway stores a sequence number once, so that this may be sent again.
        report = {"boot_id": "example", "seq": 1, "values": {"answer": 42}}
        report["anchors"] = store.fingerprints()  # or a trust anchor's rollover waits for us
        print(session.post(telemetry, json=report, idempotent=True).status_code)

        # A body of any size, in the memory of one piece.
        total = 0
        with session.get("/v1/devices/me", stream=True) as response:
            for piece in response.iter_content(256):
                total += len(piece)
        print(total)


if __name__ == "__main__":
    main()
