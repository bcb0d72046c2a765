"""The commands that only a nightly run gives their time, each run here as short as it can be.

What they find is not judged here: other tests do that, or the night does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import chains, device, emulated
from benchmarks import harness as bench_harness
from benchmarks.bounds import missed
from handfast.errors import CheckFailed
from tests.fuzz.seeds import CORPUS

ROOT = Path(__file__).resolve().parents[2]
ATHERIS_MODEL = ROOT / "tests" / "fuzz" / "atheris_model"


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make fuzz`'s program, by the real atheris where it is installed."""
    path = [str(ROOT / "host"), os.environ.get("PYTHONPATH", "")]
    if importlib.util.find_spec("atheris") is None:
        path.append(str(ATHERIS_MODEL))
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_fuzz_gives_each_parser_its_time() -> None:
    parsers = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())[:2]
    done = fuzz(*parsers, "--seconds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 parsers, 1 s each: nothing but MTLSError" in done.stdout


def test_bench_device_measures_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the counting, which takes valgrind, and with fewer chains.

    The bounds that need no counting hold here too: the whole cycle is tried in a heap of 128 KB.
    """
    ran: list[str] = []

    def instructions(command: Sequence[str | Path], **where: object) -> int:
        subprocess.run(
            command,
            env=where["environment"],
            cwd=where["folder"],
            capture_output=True,
            timeout=120,
            check=True,
        )
        ran.append(Path(next(word for word in command if str(word).endswith(".py"))).name)
        return len(ran)

    monkeypatch.setattr(device, "instructions", instructions)
    monkeypatch.setattr(chains, "instructions", instructions)
    few = {name: chains.CHAINS[name] for name in chains.CHAINS if "4096" not in name}
    monkeypatch.setattr(chains, "CHAINS", few)
    monkeypatch.setattr(device, "_LEAST_HEAP_KB", 128)
    monkeypatch.setattr(device, "_MOST_HEAP_KB", 129)
    monkeypatch.setattr(device, "OUT", tmp_path / "device.json")
    status = device.main()
    written = json.loads((tmp_path / "device.json").read_text())
    assert set(written) == {*device.BOUNDS, "chains"}
    assert set(written["chains"]) == set(few)
    assert {"calls.py", "key_and_csr.py", "handshake.py"} <= set(ran)
    counted = {name for name in device.BOUNDS if "instructions" in name}
    assert not {*missed(written, device.BOUNDS)} - counted
    assert status == (CheckFailed.exit_code if missed(written, device.BOUNDS) else 0)


@pytest.mark.timeout(900)  # two firmwares may have to be built first
def test_bench_emulated_measures_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer calls, and heaps of which the larger surely does.

    But as many resumptions as ever: a collection of the heap in a single one makes it three times
    as dear. Instructions are no times, so the bounds hold here too, but for a tenth: of a first
    call the least of three is bounded, and this is one.
    """
    for name in ("_FIRST_CALLS", "_WARM_CALLS", "_CYCLE_CALLS"):
        monkeypatch.setattr(emulated, name, 1)
    monkeypatch.setattr(emulated, "_LEAST_HEAP_KB", emulated._MOST_HEAP_KB - 1)
    monkeypatch.setattr(emulated, "OUT", tmp_path / "emulated.json")
    status = emulated.main()
    written = json.loads((tmp_path / "emulated.json").read_text())
    told = {"key_and_csr_instructions", "warm_get_instructions", "heap_peak_bytes"}
    assert {*emulated.BOUNDS, *told} <= set(written)
    assert min(written.values()) > 0
    wrong = missed(written, emulated.BOUNDS) + emulated.waiting_counted(written)
    assert status == (CheckFailed.exit_code if wrong else 0)
    a_tenth_more = {name: most and most * 11 // 10 for name, most in emulated.BOUNDS.items()}
    assert not missed(written, a_tenth_more)


def test_bench_harness_measures_and_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "harness.json"
    monkeypatch.setattr(sys, "argv", ["bench-harness", "--rounds", "1", "--out", str(out)])
    status = bench_harness.main()
    written = json.loads(out.read_text())
    fast = all(written[name] >= bound for name, bound in bench_harness.BOUNDS.items())
    assert status == (0 if fast else CheckFailed.exit_code)
