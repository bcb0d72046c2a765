"""The production line's record: appended to, whole, locked, private, and never overwritten."""

from __future__ import annotations

import csv
import fcntl
import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from handfast.boards import record
from handfast.boards.record import FIELDS, Record
from handfast.errors import EnvironmentProblem, UsageError

ENTRY = {"device_id": "a,b", "outcome": "provisioned", "exit_code": 0, "seconds": 1.5}


def lines(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(params=["record.csv", "record.jsonl"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_each_board_is_a_line_with_every_field(path: Path) -> None:
    for number in range(3):
        Record(path).append({**ENTRY, "board": f"port {number}"})
    assert [line["board"] for line in lines(path)] == ["port 0", "port 1", "port 2"]
    assert all(tuple(line) == FIELDS for line in lines(path))
    assert lines(path)[0]["device_id"] == "a,b"


def test_only_its_owner_reads_it(path: Path) -> None:
    before = os.umask(0)
    try:
        Record(path).append(ENTRY)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_lost_power_stays_a_line_of_its_own(path: Path) -> None:
    Record(path).append(ENTRY)
    whole = path.read_bytes()
    path.write_bytes(whole + b"half a li")
    Record(path).append(ENTRY)
    assert path.read_bytes().startswith(whole + b"half a li\n")
    assert path.read_bytes().splitlines()[-1] == whole.splitlines()[-1]


def test_what_does_not_fit_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Record(path)
    line.append(ENTRY)
    whole = path.read_bytes()
    write = os.write

    def full_disk(handle: int, data: bytes) -> int:
        if write(handle, bytes(data)[:5]) < 5:
            raise AssertionError
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(record.os, "write", full_disk)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            line.append(ENTRY)
    assert path.read_bytes() == whole


def test_every_line_is_on_disk_when_append_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(record.os, "fsync", noted)
    Record(path).append(ENTRY)
    assert synced[-1] == path.stat().st_size


def _append(path: Path, name: str) -> None:
    line = Record(path)
    for number in range(50):
        line.append({**ENTRY, "board": f"{name}-{number}"})


def test_several_lines_write_to_one_file(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_append, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    boards = [line["board"] for line in lines(path)]
    assert sorted(boards) == sorted(f"{name}-{number}" for name in "abc" for number in range(50))


def test_a_file_that_stays_locked_ends_in_a_message(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Record(path)
    monkeypatch.setattr(record, "_LOCK_WITHIN_S", 0.1)
    with path.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentProblem, match="locked"):
            line.append(ENTRY)


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("name,age\nada,36\n")
    with pytest.raises(UsageError, match="other columns"):
        Record(other)
    assert other.read_text() == "name,age\nada,36\n"
    with pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
        Record(tmp_path / "record.xlsx")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        Record(tmp_path / "none" / "record.csv")


@pytest.mark.parametrize("octets", [1, 9])
def test_a_first_line_that_was_cut_short_is_begun_again(tmp_path: Path, octets: int) -> None:
    path = tmp_path / "record.csv"
    Record(path).append(ENTRY)
    whole = path.read_bytes()
    path.write_bytes(whole[:octets])
    Record(path).append(ENTRY)
    assert path.read_bytes() == whole
