# Deep sleep between calls: wake, keep the identity alive, report once, sleep again
# MIT license; Copyright (c) 2026 the Handfast authors
"""As /main.py of a board on a battery. Each wake is a boot: nothing but the flash outlives it.

Sleep well below a third of the leaf's life, which is when it is renewed; a board that slept past
its end comes back by its IDevID. A wake costs a time-stamp and a handshake, more if it renews.
"""

import binascii
import time

import machine

import mtls
from mtls import net
from mtls.errors import console_facts

INTERVAL_MS = 10 * 60 * 1000
AWAKE_MS = 30000  # a wake that comes to nothing ends here, and saves the battery
WINDOW_MS = 3000  # after power-on: a board asleep has no console to be reached by


def measure():
    return {"uptime_ms": time.ticks_ms()}


def report(store, agent, stop_at):
    """Let the agent get ready, then send one report; returns whether the gateway has it."""
    while True:
        wait_ms = agent.step()
        if agent.active and agent.clock.believable:
            break
        left_ms = time.ticks_diff(stop_at, time.ticks_ms())
        if left_ms <= 0:
            return False
        time.sleep_ms(min(wait_ms, left_ms))
    # This wake's own number: sent again, it is stored once.
    body = {
        "boot_id": binascii.hexlify(store.drbg().generate(8)).decode(),
        "seq": 1,
        "values": measure(),
        "anchors": store.fingerprints(),  # or a trust anchor's rollover waits for this board
    }
    path = "/v1/devices/" + store.config()["device_id"] + "/telemetry"
    agent.session.post(path, json=body, idempotent=True).raise_for_status()
    return True


def wake():
    """Do one wake's work."""
    stop_at = time.ticks_add(time.ticks_ms(), AWAKE_MS)
    mtls.preload()
    store = mtls.Store()
    net.up(store)
    agent = mtls.Agent(store, on_event=print)
    print("reported", report(store, agent, stop_at))


def run(interval_ms=INTERVAL_MS):
    if machine.reset_cause() == machine.PWRON_RESET:  # the Pico W has no cause for deep sleep
        time.sleep_ms(WINDOW_MS)
    asleep = True
    try:
        wake()
    except KeyboardInterrupt:
        asleep = False  # somebody is at the console
        raise
    except Exception as error:  # any: a board that stays awake empties its battery
        print("failed", console_facts(error))
    finally:
        if asleep:
            machine.deepsleep(interval_ms)


if __name__ == "__main__":
    run()
