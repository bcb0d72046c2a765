"""Each reason for which esp32-qemu is left out is on the list of skips, as its tests give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from esp32_qemu_support import Installed, esp_image, skip_where_left_out

from handfast.boards.esp32_qemu import FIRMWARE_VARIABLE, NETWORK_VARIABLE

TESTS = Path(__file__).parents[2]
# Name → the model of an emulator that is installed, the setting of the network, and the reason.
# Nowhere is there a slirp, and "none" takes one that is no program.
REASONS = {
    "no emulator": ("", "", "which is not here"),
    "debian's": ("debian", "", "has no machine esp32"),
    "broken": ("none", "", "does not run"),
    "no slirp": ("wifi", "ppp", "apt install slirp"),
    "no network": ("openeth", "", "would have no network"),
}


@pytest.fixture
def rule(request: pytest.FixtureRequest) -> Any:
    """tests/conftest.py, whose rule it is."""
    return request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))


def assert_allowed(rule: Any, skipped: BaseException, says: str) -> None:
    reason = f"Skipped: {skipped}"
    assert says in reason
    node = "tests/host/esp32_qemu/test_real_emulator.py"
    report = pytest.TestReport(
        f"{node}::test_some", (node, 1, ""), {}, "skipped", (node, 1, reason), "setup"
    )
    assert rule._is_allowed(report), reason


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    file = tmp_path / "ESP32_GENERIC.bin"
    file.write_bytes(esp_image())
    return file


@pytest.mark.parametrize(("build", "network", "says"), REASONS.values(), ids=REASONS)
def test_reason_is_on_the_list_of_skips(
    rule: Any,
    firmware: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: str,
    network: str,
    says: str,
) -> None:
    program = Installed(tmp_path, monkeypatch)(build)
    if not build:
        program.unlink()
    elif build == "none":
        program.write_bytes(b"\0 is no program")
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    monkeypatch.setenv(NETWORK_VARIABLE, network)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(program) == str(tmp_path / "qemu-system-xtensa")
    with pytest.raises(pytest.skip.Exception) as skipped:
        skip_where_left_out()
    assert_allowed(rule, skipped.value, says)


def test_having_no_image_is_on_the_list_of_skips(
    rule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Installed(tmp_path, monkeypatch)("wifi")
    with pytest.raises(pytest.skip.Exception) as skipped:
        skip_where_left_out()
    assert_allowed(rule, skipped.value, "needs a MicroPython image")


def test_having_no_slirp_for_the_test_of_ppp_is_on_the_list_of_skips(
    rule: Any, firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Installed(tmp_path, monkeypatch)("wifi")
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    monkeypatch.setenv("PATH", str(tmp_path))
    skip_where_left_out()
    with pytest.raises(pytest.skip.Exception) as skipped:
        skip_where_left_out(by_ppp=True)
    assert_allowed(rule, skipped.value, "apt install slirp")


def test_a_skip_for_another_reason_is_not(rule: Any) -> None:
    with pytest.raises(AssertionError, match="out of order"):
        assert_allowed(rule, Exception("esp32-qemu is out of order"), "")
