"""The demo's act about bad randomness: holds on the real firmware, fails on broken ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import scene_support
from scene_support import empty_stage

from handfast.lab.demo.entropy import entropy
from handfast.lab.demo.report import Check
from handfast.lab.demo.scene import Scene

TWINS = "entropy: twins with replayed randomness make different keys"
STUCK = "entropy: a stuck source means no TLS at all"
LIFETIME_S = 3600

Break = Callable[[str, str, str], None]


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """An empty stage; the parameter, if any, is the boards' profile."""
    profile = getattr(request, "param", "sim-pico-w")
    with empty_stage(tmp_path, lifetime_s=LIFETIME_S, profile=profile) as scene:
        yield scene


@pytest.fixture
def break_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Let boards be provisioned with a firmware in which one text is replaced."""
    return partial(scene_support.break_firmware, tmp_path, monkeypatch)


def play(scene: Scene) -> dict[str, Check]:
    """Play the act alone and return its checks by name."""
    checks, _ = scene_support.play(entropy, scene)
    assert set(checks) == {TWINS, STUCK}
    return checks


@pytest.mark.parametrize("scene", ["sim-pico-w", "sim-esp32"], indirect=True)
def test_both_promises_hold(scene: Scene) -> None:
    for check in play(scene).values():
        assert check.passed, check.detail


def test_a_generator_that_trusts_urandom_alone_is_found_out(
    scene: Scene, break_firmware: Break
) -> None:
    break_firmware(
        "mtls/entropy.py",
        'HmacDrbg(sample + _jitter() + seed, b"handfast mtls" + _unique_id())',
        'HmacDrbg(sample + seed, b"handfast mtls")',
    )
    checks = play(scene)
    assert not checks[TWINS].passed
    assert "made the same key" in checks[TWINS].detail
    assert checks[STUCK].passed, checks[STUCK].detail


def test_a_generator_without_jitter_is_found_out_by_the_twin_with_the_same_chip_id(
    scene: Scene, break_firmware: Break
) -> None:
    break_firmware("mtls/entropy.py", "sample + _jitter() + seed", "sample + seed")
    check = play(scene)[TWINS]
    assert not check.passed
    assert "made the same key" in check.detail


def test_a_board_without_a_health_test_is_found_out(scene: Scene, break_firmware: Break) -> None:
    start = '    sample = b"".join([source(32) for _ in range(_SAMPLE // 32)])\n'
    break_firmware("mtls/entropy.py", start, start + "    return sample\n")
    checks = play(scene)
    assert checks[TWINS].passed, checks[TWINS].detail
    assert not checks[STUCK].passed
    assert "it connected" in checks[STUCK].detail
