"""`handfast demo`: passes on the real thing, fails on a broken one, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handfast.boards.builder import build_simulator
from handfast.lab.demo.intruders.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
CHECKS = {
    "clock: each board's time is signed",
    "enrolment: each board with its own key",
    "rotation: a fresh key each time",
    "rotation: the gateway's own leaf is swapped live",
    "rotation: no call is lost",
    "rotation: the old leaf is refused after the overlap",
    "power cuts: every one survived",
    "power cuts: nothing lost, nothing left over",
    "long absence: back by the IDevID",
    "intruders: at least 1,000 attempts, good calls among them",
    *(f"intruders: {kind.promise}" for kind in KINDS),
    "intruders: a refused attempt leaves no trace",
    "clock: a board told 2099 recovers",
    "clock: a board told 1970 recovers",
    "clock: a board told its leaf's last second recovers",
    "revocation: an open connection is refused at once",
    "revocation status: responders are delegated, one question each",
    "revocation status: good and unknown are told apart",
    "revocation status: CRL and OCSP know within a second",
    "entropy: twins with replayed randomness make different keys",
    "entropy: a stuck source means no TLS at all",
    "trust rollover: a new root, taken through the old one",
    "trust rollover: a new server CA, no call lost",
    "revocation: each board is refused within one request",
    "private keys: never left their boards",
}

# The demo with one board, two renewals and no acts.
ROTATION_ONLY = """
import json, sys
from pathlib import Path
from rich.console import Console
from handfast.lab.demo.live import Screen
from handfast.lab.demo.run import DemoOptions, run_demo

report = run_demo(DemoOptions(boards=1, renewals=2, acts={}), Screen(Console()))
Path(sys.argv[1]).write_text(json.dumps(report.as_json()))
"""


@pytest.fixture(autouse=True, scope="module")
def built_simulators() -> None:
    """Build before any clock runs: a test's deadline is for the demo, not for the compiler."""
    for profile in ("sim-pico-w", "sim-esp32"):
        build_simulator(profile)


def demo(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "handfast", "demo", *arguments]


def environment(scratch: Path, tree: Path = ROOT) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree / "host"), "TMPDIR": str(scratch)}


def mark(scratch: Path) -> set[int]:
    """Return the processes that belong to a demo: it and its children carry its TMPDIR."""
    wanted = f"TMPDIR={scratch}".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if wanted in variables or str(scratch).encode() in command:
            found.add(int(process.name))
    return found


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whole demos fill both cores: two at once would wait for each other, not for a defect."""
    with (tmp_path_factory.getbasetemp().parent / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    ("profile", "boards"), [("sim-pico-w", 3), ("sim-esp32", 2)], ids=["pico-w", "esp32"]
)
def test_every_promise_holds(profile: str, boards: int, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    done = subprocess.run(
        demo("--boards", str(boards), "--board", profile, "--json", result),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(result.read_text())
    assert {check["name"] for check in report["checks"]} == CHECKS
    assert all(check["passed"] and check["detail"] for check in report["checks"])
    assert all(check["seconds"] >= 0 for check in report["checks"])
    totals = report["totals"]
    assert totals["boards"] == totals["enrolments"] == boards
    assert totals["rotations"] >= 5 * boards
    assert totals["calls"] > 0
    assert totals["lost_calls"] == 0
    assert totals["attempts"] >= 1000
    assert totals["true_accepts"] + totals["true_rejects"] == totals["attempts"]
    assert totals["false_accepts"] == totals["false_rejects"] == totals["wrong_reasons"] == 0
    assert totals["power_cuts"] == totals["power_cuts_survived"] >= 50
    assert list(tmp_path.iterdir()) == [result]  # no folder of the demo is left


# Where the project is broken: file, good text, bad text; and the checks that must find it out.
BREAKAGES = (
    (
        "firmware/mtls/custody.py",
        'def write_identity(store, name, key_der, cert_der=b""):\n',
        "def write_identity(store, name, key_der, cert_der=b''):\n"
        "    print('debug', __import__('binascii').hexlify(key_der))\n",
        "private keys: never left their boards",
    ),
    (
        "host/handfast/gateway/authorise.py",
        "    if state is DeviceState.REVOKED:\n",
        "    if False:\n",
        "revocation: each board is refused within one request",
    ),
    (
        "host/handfast/gateway/authorise.py",
        "now >= switched_at + overlap_s",
        "now >= switched_at + 3600",
        "rotation: the old leaf is refused after the overlap",
    ),
    (
        "host/handfast/gateway/own_leaf.py",
        "for plan, swap in self._swaps:",
        "for plan, swap in self._swaps[:1]:",
        "rotation: the gateway's own leaf is swapped live",
    ),
    (
        "host/handfast/gateway/telemetry.py",
        "    device = find_device(tx.connection, device_id)\n",
        "    if seq == 5:\n        return True\n"
        "    device = find_device(tx.connection, device_id)\n",
        "rotation: no call is lost",
    ),
)


@contextmanager
def broken_tree(tmp_path: Path) -> Iterator[Path]:
    """Give a copy of the project that is broken in every way of BREAKAGES."""
    tree = tmp_path / "tree"
    for part in ("host", "firmware", "boards"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, good, bad, _ in BREAKAGES:
        path = tree / name
        text = path.read_text()
        assert text.count(good) == 1, f"{name} has changed: choose another place to break"
        path.write_text(text.replace(good, bad))
    yield tree


def test_each_broken_promise_is_found_out_by_its_own_check(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    with broken_tree(tmp_path) as tree:
        done = subprocess.run(
            [sys.executable, "-c", ROTATION_ONLY, result],
            env=environment(tmp_path, tree),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    failed = {c["name"] for c in json.loads(result.read_text())["checks"] if not c["passed"]}
    assert failed == {promise for *_, promise in BREAKAGES}


@pytest.fixture
def terminal_may_close() -> Iterator[None]:
    """Have SIGHUP end a process, which it does not where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal_may_close")
@pytest.mark.parametrize(
    "until",
    ["Simulated board", "Certificate authorities", "Gateway", " calling,"],
    ids=["early", "gateway", "boards", "acts"],
)
@pytest.mark.parametrize(
    "how",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    ids=["Ctrl-C", "SIGTERM", "terminal closed"],
)
def test_an_interrupted_demo_leaves_no_process_and_no_folder(
    until: str, how: signal.Signals, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    output = tmp_path / "output.txt"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            demo("--boards", "2"), env=environment(scratch), stdout=stream, stderr=stream
        )
        wait_until(
            lambda: until in output.read_text() or process.poll() is not None,
            60,
            f"the demo never said {until}",
        )
        process.send_signal(how)
        assert process.wait(20) == 128 + how, output.read_text()
    wait_until(lambda: not mark(scratch), 5, f"left behind: {mark(scratch)}")
    assert list(scratch.iterdir()) == []
    assert "Traceback" not in output.read_text()


def test_a_folder_that_is_there_already_is_not_taken(tmp_path: Path) -> None:
    keep = tmp_path / "mine"
    keep.mkdir()
    (keep / "precious").write_text("x")
    done = subprocess.run(
        demo("--keep", keep), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert str(keep) in done.stderr
    assert [path.name for path in keep.iterdir()] == ["precious"]
