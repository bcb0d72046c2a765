"""A stage for one act of the demo alone, and ways to break what it looks at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from handfast.boards import device_library, provision
from handfast.boards.virtual import boards_at
from handfast.lab.demo.report import Check, Report
from handfast.lab.demo.scene import Act, Scene
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.resources import firmware_dir
from support_pki import PASSPHRASE, TRUST_DOMAIN, make_state

ROOT = Path(__file__).resolve().parents[2]
OVERLAP_S = 2


@contextmanager
def empty_stage(
    tmp_path: Path, *, lifetime_s: int = 15, profile: str = "sim-pico-w"
) -> Iterator[Scene]:
    """Yield a scene with a running gateway and nobody on it."""
    folder = tmp_path / "stage"
    folder.mkdir()
    state = make_state(tmp_path)
    options = GatewayOptions(
        device_lifetime_s=lifetime_s, overlap_s=OVERLAP_S, boards_at=boards_at(profile)
    )
    with GatewayProcess(state, PASSPHRASE, options) as gateway:
        scene = Scene(
            profile=profile,
            lifetime_s=lifetime_s,
            overlap_s=OVERLAP_S,
            trust_domain=TRUST_DOMAIN,
            folder=folder,
            passphrase=PASSPHRASE,
            state=state,
            gateway=gateway,
        )
        with closing(scene):
            yield scene


def play(act: Act, scene: Scene) -> tuple[dict[str, Check], Report]:
    """Play an act to its end; returns its checks by name, and its report."""
    report = Report()
    act(scene, report, lambda _: None)
    return {check.name: check for check in report.checks}, report


def _replace(path: Path, good: str, bad: str) -> None:
    text = path.read_text()
    assert text.count(good) == 1, f"{path.name} has changed: choose another place to break"
    path.write_text(text.replace(good, bad))


def break_firmware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, good: str, bad: str
) -> None:
    """Have boards provisioned with a firmware in which one text is replaced."""
    broken = tmp_path / "firmware"
    shutil.copytree(firmware_dir(), broken, ignore=shutil.ignore_patterns("__pycache__"))
    _replace(broken / name, good, bad)
    for module in (provision, device_library):
        monkeypatch.setattr(module, "firmware_dir", lambda: broken)


def break_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, good: str, bad: str
) -> None:
    """Have gateway processes started from code in which one text is replaced, or one more."""
    tree = tmp_path / "broken"
    if not tree.exists():
        shutil.copytree(ROOT / "host", tree, ignore=shutil.ignore_patterns("__pycache__"))
    _replace(tree / "handfast" / name, good, bad)
    monkeypatch.setenv("PYTHONPATH", str(tree))
