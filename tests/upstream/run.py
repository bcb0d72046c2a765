"""Runs one of MicroPython's tests on boards, as its run-tests.py and run-multitests.py do."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.definition import Ethernet
from handfast.boards.serial_link import SerialLink
from tests.upstream.instance import CPYTHON, BoardInstance, CPythonInstance, Instance
from tests.upstream.local_net import LocalNet, authority, authority_der
from tests.upstream.tree import UpstreamTest, UpstreamTree
from tests.upstream.verdict import Verdict, compared, unittest_outcome

ROOT = Path(__file__).parents[2]
# What the tests import, and neither a stock board's firmware nor the source package has
# (micropython-lib is an empty folder there).
_LIBRARIES = {
    "ssl": ROOT / "tests" / "firmware" / "ssl_model" / "ssl.py",
    "unittest": ROOT / "tests" / "upstream" / "unittest_model" / "unittest.py",
}
_UPLINK = ROOT / "boards" / "esp32-qemu" / "uplink.py"
# What net_inet opens, and upstream's boards are given by hand: the CA of micropython.org.
_CA = "mpycert.der"
# Both as upstream has them: TEST_TIMEOUT and INSTANCE_READ_TIMEOUT_S.
TEST_S = 30.0
SILENT_S = 10.0
_JOIN_S = 60.0
_POLL_S = 0.05
_STARTED = "START TEST"
# How long one end of a test waits for what the other does: a handshake, a packet.
_WAITS = re.compile(r"(?<=wait_for\(ev\.wait\(\), )10(?=\))|(?<=settimeout\()0\.250(?=\))")


def prepare(link: SerialLink, test: UpstreamTest, *, now: float) -> None:
    """Give a board what the test finds on upstream's: a clock, its files, libraries.

    Args:
        link: the board.
        test: what it is to run.
        now: unix seconds; the test certificates have a beginning and an end.
    """
    link.soft_reset()
    year, month, day, hour, minute, second = time.gmtime(now)[:6]
    link.exec(
        "import machine\n"
        f"machine.RTC().datetime(({year}, {month}, {day}, 0, {hour}, {minute}, {second}, 0))"
    )
    files = {f"/lib/{name}.py": file for name, file in _LIBRARIES.items()}
    wanted = {path: file.read_bytes() for path, file in files.items() if _needs(link, path, test)}
    if test.instances:
        wanted |= {f"/{name}": content for name, content in test.certificates.items()}
    elif f'"{_CA}"' in test.text:
        wanted[f"/{_CA}"] = authority_der()
    link.push(wanted)


def wait_for_uplink(link: SerialLink) -> None:
    """Wait until a board that dials by its module `uplink` has an address."""
    link.exec(f"import uplink\nuplink.up({int(_JOIN_S * 1000)})", 2 * _JOIN_S)


def dial(link: SerialLink) -> None:
    """Have an ESP32 in QEMU dial, which has none of our modules in its firmware."""
    link.push({f"/lib/{_UPLINK.name}": _UPLINK.read_bytes()})
    wait_for_uplink(link)


def join(link: SerialLink, ethernet: Ethernet | None, wifi: tuple[str, str]) -> None:
    """Bring a board's network up, as upstream's boards have it before a test.

    Args:
        link: the board.
        ethernet: its port, by its board.toml; joined first.
        wifi: SSID and password; "" for none. A board that has neither is left alone.
    """
    ssid, password = wifi
    if ethernet is not None:
        opened = (
            f"nic = network.LAN(mdc=Pin({ethernet.mdc}), mdio=Pin({ethernet.mdio}), "
            f"phy_type=network.PHY_{ethernet.kind}, phy_addr={ethernet.phy_addr})\nnic.active(True)"
        )
    elif ssid:
        opened = (
            "nic = network.WLAN(network.STA_IF)\nnic.active(True)\n"
            f"nic.connect({ssid!r}, {password!r})"
        )
    else:
        return
    link.exec(
        f"import network, time\nfrom machine import Pin\n{opened}\n"
        f"end = time.ticks_add(time.ticks_ms(), {int(_JOIN_S * 1000)})\n"
        "while nic.ifconfig()[0] == '0.0.0.0':\n"
        " assert time.ticks_diff(end, time.ticks_ms()) > 0, 'no address'\n"
        " time.sleep_ms(50)",
        2 * _JOIN_S,
    )


def _needs(link: SerialLink, path: str, test: UpstreamTest) -> bool:
    name = Path(path).stem
    if name not in test.text:
        return False
    answer = link.exec(f"try:\n import {name}\n print(True)\nexcept ImportError:\n print(False)")
    return answer.strip() == "False"


def run_single(link: SerialLink, test: UpstreamTest, net: LocalNet, *, pace: int = 1) -> Verdict:
    """Run a plain test on one board, which is given ``pace`` times as long as upstream's."""
    instance = BoardInstance(link)
    # One line more, so that line numbers stay where a comment begins the file, as upstream has it.
    instance.start(f"print('{_STARTED}')\n{net.localised(test.text)}", TEST_S * pace)
    printed = net.restored("\n".join([*_all_lines(instance, TEST_S * pace), ""]))
    instance.stop()
    begin, _, printed = printed.partition("\n")
    if begin != _STARTED:
        return Verdict("fail", f"it did not start: {begin}\n{printed}{instance.error}")
    if instance.error:
        return Verdict("fail", f"{printed}{instance.error}\nCRASH")
    return unittest_outcome(printed) or compared(printed, _single_expected(test, net))


def _all_lines(instance: Instance, timeout_s: float) -> list[str]:
    give_up = time.monotonic() + timeout_s + SILENT_S
    lines: list[str] = []
    while not instance.finished and time.monotonic() < give_up:
        if (line := instance.line(_POLL_S)) is not None:
            lines.append(line)
    return lines


def _single_expected(test: UpstreamTest, net: LocalNet) -> str:
    if test.expected is not None:
        return test.expected
    answer = subprocess.run(
        [*CPYTHON, "-c", net.at_home().localised(test.text)],
        cwd=test.path.parent,
        # CPython verifies unless it is told not to, so that it is to trust the peer of here.
        env=os.environ | {"SSL_CERT_FILE": authority().file},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TEST_S,
        check=False,
    )
    crash = "CPYTHON3 CRASH:\n" if answer.returncode else ""
    return net.restored(crash + answer.stdout)


# ---- Several boards ----


@dataclass
class _Transcript:
    """What the instances of one test have said so far."""

    lines: list[list[str]]
    settings: list[str]
    patience_s: float
    skipped: bool = False
    failed: bool = False

    def text(self) -> str:
        return "".join(
            f"--- instance{number} ---\n" + "\n".join(lines) + "\n"
            for number, lines in enumerate(self.lines)
        )


def run_multi(
    links: Sequence[SerialLink],
    test: UpstreamTest,
    tree: UpstreamTree,
    net: LocalNet,
    *,
    pace: int = 1,
) -> Verdict:
    """Run a test on as many boards as it has instances; the first serves, the others ask."""
    transcript = _on_instances([BoardInstance(link) for link in links], test, tree, net, pace)
    if transcript.skipped:
        return Verdict("skip", "it found something missing and said SKIP")
    expected = test.expected
    if expected is None:
        judges = [CPythonInstance(test.path.parent) for _ in links]
        expected = _on_instances(judges, test, tree, net.at_home(), 1).text()
    return compared(net.restored(transcript.text()), net.restored(expected))


def _on_instances(
    instances: Sequence[Instance],
    test: UpstreamTest,
    tree: UpstreamTree,
    net: LocalNet,
    pace: int,
) -> _Transcript:
    transcript = _Transcript([[] for _ in instances], [f"HOST_IP = {net.host!r}"], SILENT_S * pace)
    try:
        for number, instance in enumerate(instances):
            settings = "\n".join(transcript.settings)
            appended = tree.multitest_template.format(settings, number)
            text = at_pace(net.localised(test.text), pace)
            instance.start(f"{text}\n{appended}", TEST_S * pace)
            _until_next(number, instance, transcript)
            if transcript.failed or transcript.skipped:
                return transcript
        _until_all_end(instances, transcript)
    finally:
        for instance in instances:
            instance.stop()
    return transcript


def at_pace(text: str, pace: int) -> str:
    """Let the ends of a test wait for each other for ``pace`` times as long as upstream's."""
    return text if pace == 1 else _WAITS.sub(lambda wait: str(float(wait[0]) * pace), text)


def _until_next(number: int, instance: Instance, transcript: _Transcript) -> None:
    """Read up to where the test lets the following instance begin."""
    heard = time.monotonic()
    while not instance.finished:
        line = instance.line(_POLL_S)
        if line is None:
            if time.monotonic() > heard + transcript.patience_s:
                return _time_out(number, transcript)
            continue
        heard = time.monotonic()
        line = line.rstrip()
        if line == "NEXT":
            return None
        if line == "SKIP":
            transcript.skipped = True
            return None
        if line.startswith("SET "):
            transcript.settings.append(line.removeprefix("SET "))
        else:
            transcript.lines[number].append(line)
    return _note_error(number, instance, transcript)


def _until_all_end(instances: Sequence[Instance], transcript: _Transcript) -> None:
    """Read from all until they have ended, and carry what one says to all to the others."""
    heard = dict.fromkeys(range(len(instances)), time.monotonic())
    running: Mapping[int, Instance] = dict(enumerate(instances))
    while running and not transcript.failed:
        for number, instance in running.items():
            line = instance.line(_POLL_S / len(instances))
            if line is None:
                if (
                    not instance.finished
                    and time.monotonic() > heard[number] + transcript.patience_s
                ):
                    _time_out(number, transcript)
                continue
            heard[number] = time.monotonic()
            line = line.rstrip()
            if line.startswith("BROADCAST "):
                for other in instances:
                    if other is not instance:
                        other.send(line)
            elif not line.startswith("OUTPUT_METRIC "):
                transcript.lines[number].append(line)
        for number, instance in running.items():
            if instance.finished:
                _note_error(number, instance, transcript)
        running = {n: one for n, one in running.items() if not one.finished}


def _time_out(number: int, transcript: _Transcript) -> None:
    transcript.lines[number].append("TIMEOUT")
    transcript.failed = True


def _note_error(number: int, instance: Instance, transcript: _Transcript) -> None:
    if instance.error:
        transcript.lines[number] += instance.error.splitlines()
        transcript.failed = True
