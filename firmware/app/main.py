# Handfast application: reports telemetry over mutual TLS and lets the agent run
# MIT license; Copyright (c) 2026 the Handfast authors
"""Each line on the console that starts with "mtls:" is for machines too: an event and key=value
pairs, never a key, token or password. Ctrl-C ends it and gives the REPL."""

import gc
import os
import sys
import time

import mtls
from mtls.errors import ConfigError, MTLSError, console_facts

_SLOW_MS = 60000
_RETRY_MS = 1000  # the first retry of a call; each further one waits longer
_DEFAULT_INTERVAL_S = 5  # of a gateway that has no opinion
_LONGEST_INTERVAL_S = 86400


def say(event, facts=()):
    words = ["mtls:", event]
    for name, value in facts:
        text = str(value).replace("\\", "/")
        words.append(name + "=" + (('"' + text.replace('"', "'") + '"') if " " in text else text))
    # One line of plain text, whatever a peer made part of it.
    print("".join([char if " " <= char <= "~" else " " for char in " ".join(words)]))


def say_error(error):
    event, facts = console_facts(error)
    say(event, facts)


class Reporter:
    """Greets the gateway, then reports one value at a time: the same one, by the same sequence
    number, until it is acknowledged."""

    def __init__(self, agent, config, boot_id):
        self.agent = agent
        self.path = "/v1/devices/" + config["device_id"]
        self.boot_id = boot_id
        self.interval_s = config["telemetry_interval_s"]  # 0: what the gateway says
        self.sequence = 0
        self.failures = 0
        self.report = None
        self._pinged = False
        self._told_with = None  # the leaf that our anchors were reported with

    def step(self):
        """Send what is due; return ms until the next report. Raises nothing of the library's."""
        try:
            if not self._pinged:
                self._ping()
            if not self.interval_s:
                self._ask_interval()
            self._report()
        except (MTLSError, MemoryError) as error:
            say_error(error)
            return self._backoff_ms()
        self.failures = 0
        return self.interval_s * 1000

    def _backoff_ms(self):
        from mtls.plan import backoff_ms

        self.failures += 1
        # Half of it is chance, so that a fleet does not come back at one moment.
        return max(_RETRY_MS, backoff_ms(self.failures, 0, os.urandom(1)[0]))

    def _ping(self):
        self.agent.session.get("/v1/ping").raise_for_status()
        self._pinged = True
        say("ping ok")

    def _ask_interval(self):
        response = self.agent.session.get(self.path + "/config")
        response.raise_for_status()
        settings = response.json()
        seconds = settings.get("telemetry_interval_s") if isinstance(settings, dict) else None
        usable = isinstance(seconds, int) and 0 < seconds <= _LONGEST_INTERVAL_S
        self.interval_s = seconds if usable else _DEFAULT_INTERVAL_S

    def _measure(self):
        self.sequence += 1
        report = {
            "boot_id": self.boot_id,
            "seq": self.sequence,
            "values": {
                "uptime_ms": time.ticks_ms(),
                "heap_free": gc.mem_free(),
                "connections": self.agent.session.connections,
                "handshake_ms": self.agent.session.handshake_ms,
            },
        }
        if self._told_with != self.agent.not_before:  # anchors change when a leaf is renewed
            self._told_with = self.agent.not_before
            report["anchors"] = self.agent.store.fingerprints()
        return report

    def _report(self):
        if self.report is None:
            self.report = self._measure()
        response = self.agent.session.post(
            self.path + "/telemetry", json=self.report, idempotent=True
        )
        response.raise_for_status()
        say("telemetry", (("seq", self.report["seq"]), ("status", response.status_code)))
        self.report = None


def start(store):
    """Return the agent and the reporter of this boot."""
    import binascii

    from mtls.agent import Agent

    boot_id = binascii.hexlify(store.drbg().generate(8)).decode()
    say("boot", (("boot_id", boot_id), ("version", mtls.__version__)))
    agent = Agent(store, on_event=say)
    return agent, Reporter(agent, store.config(), boot_id)


class Watchdog:
    """The chip's, where config.json asks for one: made once a boot, however often `run` begins
    again. Its making counts as progress, and some ports can start it only once."""

    def __init__(self):
        self._dog = None

    def start(self, config):
        if config["watchdog_s"] and self._dog is None:
            from mtls import watchdog

            self._dog = watchdog.Watchdog(config["watchdog_s"])

    def progress(self):
        if self._dog is not None:
            self._dog.progress()


def run(dog):
    mtls.preload()
    from mtls.store import Store

    store = Store()
    config = store.config()
    dog.start(config)  # before anything that can fail for ever
    if sys.platform == "esp32":
        from mtls.net import radio_on

        radio_on()  # before a key is made, also by a board that is on a cable
    if config["secure_element"]:
        mtls.preload("atecc")
    network = None
    if config["networks"]:
        from mtls.net import Network

        network = Network(store)
        network.up()
    agent, reporter = start(store)
    agent_at = report_at = network_at = time.ticks_ms()
    while True:
        if network and _due(network_at):
            network_at = _in(network.step())
        if _due(agent_at):
            agent_at = _in(agent.step())
        if agent.active is None:
            report_at = time.ticks_ms()
        elif _due(report_at):
            report_at = _in(reporter.step())
            if not reporter.failures:
                dog.progress()
            if agent.active is None or not agent.clock.believable:
                agent_at = time.ticks_ms()  # refused: let it find another way in
        wait = agent_at if agent.active is None else _earlier(agent_at, report_at)
        if network:
            wait = _earlier(wait, network_at)
        gc.collect()
        time.sleep_ms(max(1, min(1000, time.ticks_diff(wait, time.ticks_ms()))))


def _in(wait_ms):
    return time.ticks_add(time.ticks_ms(), wait_ms)


def _due(ticks):
    return time.ticks_diff(time.ticks_ms(), ticks) >= 0


def _earlier(a, b):
    return a if time.ticks_diff(a, b) < 0 else b


def main():
    """Run for ever: whatever goes wrong ends in one line, and in another try."""
    dog = Watchdog()
    wait_ms = 2500
    while True:
        try:
            run(dog)
        except Exception as error:
            say_error(error)
            # Each try writes the seed anew: not for ever every few seconds.
            wait_ms = _SLOW_MS if isinstance(error, ConfigError) else min(_SLOW_MS, wait_ms * 2)
        gc.collect()
        time.sleep_ms(wait_ms)


if __name__ == "__main__":
    main()
