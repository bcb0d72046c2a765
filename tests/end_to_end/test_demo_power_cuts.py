"""The demo's act of power cuts: it passes on the real thing and fails on a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_support import break_firmware, break_gateway, empty_stage, play

from handfast.lab.demo import comeback
from handfast.lab.demo import power_cuts as act
from handfast.lab.demo.power_cuts import LEAST_CUTS, power_cuts

SURVIVED = "power cuts: every one survived"
NOTHING_LOST = "power cuts: nothing lost, nothing left over"

STORE, PROOF = "mtls/custody.py", "mtls/proof.py"
WRITE = 'store._write("current", name.encode() + b"\\n")'
CALL = "    agent.store.set_current(identity.name)\n"
READ_BACK = (
    "    if agent.store.current() != identity.name:\n"
    '        raise StoreDamaged("the pointer to slot %s did not reach the flash"'
    " % identity.name)\n"
)


@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_every_power_cut_is_survived(profile: str, tmp_path: Path) -> None:
    with empty_stage(tmp_path, profile=profile) as scene:
        checks, report = play(power_cuts, scene)
    assert report.passed, report.as_json()
    assert list(checks) == [SURVIVED, NOTHING_LOST]
    assert report.totals == {"power_cuts": LEAST_CUTS, "power_cuts_survived": LEAST_CUTS}
    for phase in ("rotating", "enrolling by token", "enrolling by IDevID", "while recovering"):
        assert phase in checks[SURVIVED].detail


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [(STORE, WRITE, "pass"), (PROOF, CALL, "")],
    ids=["not written", "not asked for"],
)
def test_a_firmware_without_the_pointer_write_fails(
    name: str, good: str, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board reads the pointer back and goes no further without it: it never calls."""
    break_firmware(tmp_path, monkeypatch, name, good, bad)
    monkeypatch.setattr(comeback, "BOOT_WITHIN_S", 8.0)
    with empty_stage(tmp_path) as scene:
        checks, report = play(power_cuts, scene)
    assert not checks[SURVIVED].passed
    assert "StoreDamaged" in checks[SURVIVED].detail
    assert report.totals["power_cuts_survived"] == 0


def test_a_firmware_with_neither_the_pointer_write_nor_the_read_back_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a board does come back each time: it tries its slots newest first and proves one.

    The pointer is then no matter of coming back, but of knowing: which leaf was proven (without it
    every boot pays a handshake and a wait for that again), which of two leaves of one second is
    the newer, and which slot a new key must not overwrite while both leaves are refused. DESIGN
    4.5 promises that it is on flash before a leaf's first request; so the check looks at the flash
    of boards that came back, and finds it missing.
    """
    break_firmware(tmp_path, monkeypatch, PROOF, CALL + READ_BACK, "")
    with empty_stage(tmp_path) as scene:
        checks, _ = play(power_cuts, scene)
    assert not checks[SURVIVED].passed
    assert "the pointer to the leaf in use is not on the board's flash" in checks[SURVIVED].detail
    assert not checks[NOTHING_LOST].passed


def test_a_firmware_that_leaves_half_written_files_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = '                forget(store._path(folder + "/" + name if folder else name))\n'
    keep = '                os.rename(store._path(name), store._path("left.new"))\n'
    break_firmware(tmp_path, monkeypatch, STORE, sweep, keep)
    monkeypatch.setattr(act, "LEAST_CUTS", 20)
    with empty_stage(tmp_path) as scene:
        checks, _ = play(power_cuts, scene)
    assert checks[SURVIVED].passed, checks[SURVIVED].detail
    assert "left on flash: left.new" in checks[NOTHING_LOST].detail
    assert not checks[NOTHING_LOST].passed


def test_a_gateway_that_forgets_reports_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps = "    if over > 0:\n"
    forgets = "    if over > 3000 - MOST_BYTES:\n        over = 1 - _ROOM_BYTES\n"
    break_gateway(tmp_path, monkeypatch, "gateway/telemetry.py", keeps, forgets)
    monkeypatch.setattr(act, "LEAST_CUTS", 8)
    with empty_stage(tmp_path) as scene:
        checks, _ = play(power_cuts, scene)
    assert checks[SURVIVED].passed, checks[SURVIVED].detail
    assert "acknowledged reports were lost" in checks[NOTHING_LOST].detail
    assert not checks[NOTHING_LOST].passed
