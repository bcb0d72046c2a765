"""The how-to's blocks: those for one machine are executed, those for a Raspberry Pi are read."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attr
import pytest
from labgrid import Environment
from labgrid.factory import target_factory
from labgrid.remote import exporter
from labgrid.remote.config import ResourceConfig
from labgrid_support import LOOPBACK, Process, environment
from plugin_support import ROOT, entry_point

from handfast.lab.labgrid.places import places

HOW_TO = (ROOT / "docs/how-to/many-boards.md").read_text()
_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def blocks(kind: str) -> list[str]:
    return [found["text"] for found in _BLOCK.finditer(HOW_TO) if found["kind"] == kind]


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    kinds = [found["kind"] for found in _BLOCK.finditer(HOW_TO)]
    assert len(kinds) == HOW_TO.count("```") // 2
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "sh": 5, "yaml": 4, "python": 2, "ini": 2, "text": 1,
    }  # fmt: skip


@pytest.mark.timeout(400)
def test_the_try_on_one_machine_works_as_it_stands(tmp_path: Path) -> None:
    exported, farm, *_ = blocks("yaml")
    _, coordinator, an_exporter, clients, run = blocks("sh")
    (tmp_path / "exporter.yaml").write_text(exported)
    (tmp_path / "test_farm.py").write_text(blocks("python")[0])
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    started: list[Process] = []
    address = f"{LOOPBACK}:0"  # not 20408, which may be somebody's

    def words(line: str) -> list[str]:
        first, *others = shlex.split(line.replace(f"{LOOPBACK}:20408", address))
        return [str(BIN / first), *others]

    def start(line: str, log: str, options: list[str]) -> Process:
        command = words(line)
        started.append(Process([*command, *options], tmp_path, tmp_path / log, str(BIN)))
        return started[-1]

    try:
        ready = start(coordinator, "coordinator.log", []).wait_for("listening on")
        address = ready.split()[-1]
        (tmp_path / "farm.yaml").write_text(farm.replace(f"{LOOPBACK}:20408", address))
        ours = ["--coordinator", address]
        start(an_exporter, "exporter.log", ours).wait_for("Exporter ready")
        env = environment() | {"LG_COORDINATOR": address}
        env["PYTHONPATH"] += os.pathsep + str(entry_point(tmp_path / "site"))
        for line in [*clients.splitlines(), *run.splitlines()]:
            done = subprocess.run(
                words(line), cwd=tmp_path, env=env, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=200, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        assert "2 passed" in done.stdout
    finally:
        for process in reversed(started):
            process.end()


# What needs a Raspberry Pi


def test_the_exporters_configuration_is_one_that_labgrid_exports(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text(blocks("yaml")[2])
    groups = ResourceConfig(str(file)).data
    assert list(groups) == ["pico-left", "esp32-right"]
    for group in groups.values():
        assert set(group) == {"location", "USBSerialPort", "USBPowerPort"}
        for name in ("USBSerialPort", "USBPowerPort"):
            export: Callable[..., Any] = exporter.exports[name]
            made = export({"avail": False, "cls": name, "params": dict(group[name])}, host="pi-1")
            assert made.local.match.items() >= group[name]["match"].items()


def test_the_farms_environment_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "farm.yaml"
    file.write_text(blocks("yaml")[3])
    made = Environment(str(file))
    found = {one.name: sorted(one.capabilities) for one in places(made)}
    assert found == {
        "pico-left": ["bme280", "power_cycle", "real_radio", "reset"],
        "esp32-right": ["power_cycle", "real_radio", "reset"],
    }
    for config in made.config.get_targets().values():
        for name, instances in target_factory.normalize_config(config)[1].items():
            fields = {field.name for field in attr.fields(target_factory.drivers[name])}
            for arguments, _ in instances.values():
                assert set(arguments) <= fields
                image = arguments.get("image")
                assert image is None or image in made.config.data["images"]


def test_the_units_start_what_is_there_with_options_that_it_has() -> None:
    for text in blocks("ini"):
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        assert unit["Service"]["Restart"] == "always"
        program, *words = shlex.split(unit["Service"]["ExecStart"])
        options = [word for word in words if word.startswith("--")]
        known = subprocess.run(
            [BIN / Path(program).name, "--help"],
            env=environment(), capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        assert options
        for option in options:
            assert option in known
