"""``handfast board list``, ``show`` and ``validate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from handfast.boards.definition import FOLDERS_VARIABLE, list_boards
from handfast.cli import handfast
from handfast.errors import CheckFailed, UsageError
from handfast.resources import boards_dir


def run(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(handfast, ["board", *words])


def as_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "pico-w" / "board.toml"
    file.parent.mkdir()
    good = (boards_dir() / "pico-w" / "board.toml").read_text()
    file.write_text(good.replace("ram_kb = 264", 'ram_kb = "264"'))
    return file


def test_list_has_every_board() -> None:
    listed = as_json("list")["boards"]
    assert [board["name"] for board in listed] == list_boards()
    shown = run("list").output
    assert all(board["name"] in shown and board["description"] in shown for board in listed)


def test_show_has_what_flashing_needs_and_says_what_is_not_recorded() -> None:
    shown = as_json("show", "pico-w")
    assert shown["usb"] == {"ids": ["2e8a:0005"], "bootloader_ids": ["2e8a:0003"]}
    assert shown["flash"]["loader"]["uf2_family_ids"] == [0xE48BFF56]
    assert shown["firmware"]["sha256"] is None
    lines = [line.split() for line in run("show", "pico-w").output.splitlines()]
    assert ["firmware.sha256", "not", "recorded"] in lines
    assert ["flash.loader.uf2_family_ids", "0xe48bff56"] in lines
    assert ["flash.loader.image_offset", "0x1000"] in [
        line.split() for line in run("show", "esp32").output.splitlines()
    ]


def test_show_of_an_unknown_board_is_a_usage_error() -> None:
    done = run("show", "pico-x")
    assert isinstance(done.exception, UsageError)
    assert "no board 'pico-x'" in str(done.exception)


def test_validate_names_every_wrong_file_and_line(broken: Path) -> None:
    missing = broken.parent / "none.toml"
    done = run("validate", str(broken), str(missing))
    assert isinstance(done.exception, CheckFailed)
    line = broken.read_text().splitlines().index('ram_kb = "264"') + 1
    first, second = str(done.exception).splitlines()
    assert first.startswith(f"{broken}:{line}: [memory] ram_kb must be a whole number")
    assert second.startswith(f"{missing}: cannot be read")


def test_validate_checks_all_boards_there_are(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_json("validate")["valid"] is True
    assert f"board definitions checked: {len(list_boards())}, all valid" in run("validate").output
    monkeypatch.setenv(FOLDERS_VARIABLE, str(broken.parents[1]))
    report = as_json("validate")
    assert report["valid"] is False
    assert [board["file"] for board in report["boards"] if board["problem"]] == [str(broken)]
