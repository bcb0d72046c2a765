"""A lease is one process's, and ends with it, however that ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from handfast.lab.pytest_plugin.leases import lease_folder, take

HOLDER = """
import sys, time
from pathlib import Path
from handfast.lab.pytest_plugin.leases import take
lease = take(Path(sys.argv[1]), sys.argv[2])
print("held" if lease else "refused", flush=True)
time.sleep(600)
"""


def holder(folder: Path, board: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder, board], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_lease_outlives_nobody_who_held_it(tmp_path: Path) -> None:
    process, said = holder(tmp_path, "pico-w@E6614")
    try:
        assert said == "held"
        assert take(tmp_path, "pico-w@E6614") is None
        assert take(tmp_path, "pico-w@E6615") is not None
    finally:
        end(process)  # as a crash does: it had no chance to let go
    assert take(tmp_path, "pico-w@E6614") is not None


def test_a_lease_is_given_back_once_and_can_be_taken_again(tmp_path: Path) -> None:
    lease = take(tmp_path, "/dev/ttyACM0")
    assert lease is not None
    process, said = holder(tmp_path, "/dev/ttyACM0")
    end(process)
    assert said == "refused"
    lease.release()
    lease.release()
    process, said = holder(tmp_path, "/dev/ttyACM0")
    end(process)
    assert said == "held"


def test_the_folder_is_the_users_own() -> None:
    assert lease_folder().stat().st_mode & 0o077 == 0
