# Handfast application: reports telemetry over mutual TLS and lets the agent run
# MIT license; Copyright (c) 2026 the Handfast authors
"""Each line on the console that starts with "mtls:" is for machines too: an event and key=value
pairs, never a key, token or password. Ctrl-C ends it and gives the REPL."""

import gc
import time

import mtls
from mtls.errors import ConfigError, MTLSError, Refused

_SLOW_MS = 60000


def say(event, facts=()):
    words = ["mtls:", event]
    for name, value in facts:
        text = str(value).replace("\\", "/")
        words.append(name + "=" + (('"' + text.replace('"', "'") + '"') if " " in text else text))
    print(" ".join(words).replace("\n", " "))


def say_error(error):
    if isinstance(error, Refused):
        say("refused", (("status", error.status), ("type", error.type or "-")))
    else:
        say(
            "error",
            (("kind", type(error).__name__), ("detail", error.args[0] if error.args else "-")),
        )


class Telemetry:
    """Reports one value at a time, the same sequence number until it is acknowledged."""

    def __init__(self, agent, device_id, boot_id, interval_ms):
        self.agent = agent
        self.path = "/v1/devices/" + device_id + "/telemetry"
        self.boot_id = boot_id
        self.interval_ms = interval_ms
        self.sequence = 0
        self.failures = 0
        self.report = None

    def measure(self):
        self.sequence += 1
        return {
            "boot_id": self.boot_id,
            "seq": self.sequence,
            "values": {"uptime_ms": time.ticks_ms(), "heap_free": gc.mem_free()},
        }

    def step(self):
        """Send what is due; return ms until the next report."""
        if self.report is None:
            self.report = self.measure()
        try:
            response = self.agent.session.post(self.path, json=self.report, idempotent=True)
            response.raise_for_status()
        except MTLSError as error:
            say_error(error)
            self.failures += 1
            return min(_SLOW_MS, self.interval_ms << min(self.failures, 6))
        say("telemetry", (("seq", self.sequence), ("status", response.status_code)))
        self.report = None
        self.failures = 0
        return self.interval_ms


def ping(agent):
    response = agent.session.get("/v1/ping")
    response.raise_for_status()
    say("ping ok")


def run():
    import binascii

    mtls.preload()
    from mtls import net
    from mtls.agent import Agent
    from mtls.store import Store

    store = Store()
    config = store.config()
    net.up(store)
    boot_id = binascii.hexlify(store.drbg().generate(8)).decode()
    say("boot", (("boot_id", boot_id), ("version", mtls.__version__)))
    agent = Agent(store, on_event=say)
    telemetry = Telemetry(
        agent, config["device_id"], boot_id, config["telemetry_interval_s"] * 1000
    )
    pinged = False
    agent_at = report_at = time.ticks_ms()
    while True:
        now = time.ticks_ms()
        if time.ticks_diff(now, agent_at) >= 0:
            agent_at = time.ticks_add(time.ticks_ms(), agent.step())
        if agent.active is None:
            report_at = time.ticks_ms()
        elif time.ticks_diff(now, report_at) >= 0:
            try:
                if not pinged:
                    ping(agent)
                    pinged = True
                report_at = time.ticks_add(time.ticks_ms(), telemetry.step())
            except MTLSError as error:
                say_error(error)
                report_at = time.ticks_add(time.ticks_ms(), 1000)
            if agent.active is None or not agent.clock.believable:
                agent_at = time.ticks_ms()  # refused: let it find another way in
        wait = agent_at if agent.active is None else _earlier(agent_at, report_at)
        gc.collect()
        time.sleep_ms(max(1, min(1000, time.ticks_diff(wait, time.ticks_ms()))))


def _earlier(a, b):
    return a if time.ticks_diff(a, b) < 0 else b


def main():
    """Run for ever: whatever goes wrong ends in one line, and in another try."""
    while True:
        wait_ms = 5000
        try:
            run()
        except ConfigError as error:
            say_error(error)
            wait_ms = _SLOW_MS
        except Exception as error:
            say_error(error)
        gc.collect()
        time.sleep_ms(wait_ms)


if __name__ == "__main__":
    main()
