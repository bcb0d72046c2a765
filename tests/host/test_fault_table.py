"""docs/reference/faults.md is held to the tests: each has a row, and each count is what is run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "faults.md").read_text()
ROW = re.compile(r"^\| (.+) \| `(test_\w+)` \| (\d+)( or more)? \| (.+) \|$", re.MULTILINE)
FILES = (
    "tests/faults/test_frozen_step_faults.py",
    "tests/faults/test_install_faults.py",
    "tests/faults/test_provision_faults.py",
    "tests/faults/test_serial_faults.py",
    "tests/host/serial/test_native_port.py",
    "tests/host/serial/test_serial_recovery.py",
)
FLASHING = (
    "tests/host/flash/test_esp_flash.py",
    "tests/host/flash/test_firmware_cache.py",
    "tests/host/flash/test_fuses.py",
    "tests/host/flash/test_pico_flash.py",
)
TYPED = "tests/host/flash/test_flash_command.py::test_another_phrase_burns_nothing"
# What is flashed without a fault, and what needs no board.
WITHOUT_A_FAULT = {
    "test_a_board_that_runs_is_asked_for_its_bootloader",
    "test_a_chips_own_usb_takes_other_signals",
    "test_a_file_at_hand_needs_no_network",
    "test_a_file_is_fetched_once",
    "test_a_plan_says_each_fuse_and_that_it_stays",
    "test_a_second_run_writes_nothing",
    "test_a_user_s_password_goes_to_the_server_and_is_not_shown",
    "test_an_image_arrives_byte_by_byte",
    "test_an_image_arrives_byte_by_byte_and_the_board_restarts",
    "test_later_chips_have_a_chip_id_and_start_at_0",
    "test_on_request_all_is_erased_first",
    "test_picotool_waits_for_a_board_that_runs_to_be_in_bootsel_mode",
    "test_segments_cover_an_image_and_end_at_erase_blocks",
    "test_the_phrase_burns_what_was_shown",
    "test_the_rom_alone_does_it_too",
    "test_what_lies_behind_the_image_stays",
    "test_what_stood_there_is_erased_and_its_neighbours_stay",
    "test_without_a_hash_the_first_one_over_https_is_remembered",
}
sys.path[:0] = [str(ROOT / "tests" / "faults")]
import test_frozen_step_faults as frozen_step  # noqa: E402
import test_install_faults as install  # noqa: E402


@pytest.fixture(scope="module")
def collected() -> Counter[str]:
    """Return how many cases each test with a fault has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist"]
    command += [*FILES, *FLASHING, TYPED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    found = Counter(re.findall(r"^tests/[\w/.]+::(test_\w+)", done.stdout, re.MULTILINE))
    assert set(found) >= WITHOUT_A_FAULT
    return Counter({test: n for test, n in found.items() if test not in WITHOUT_A_FAULT})


def in_loops() -> dict[str, tuple[int, bool]]:
    """Return the cases of tests that count more than pytest does, and whether those are a minimum.

    A loop has as many cases as the installation has steps; it fails itself if those get fewer.
    """
    operations, writes = install.FEWEST_OPERATIONS, install.FEWEST_WRITES
    two = len(install.START)
    cuts = two * (len(range(operations)) + len(range(1, operations, 4)))
    unplugged = len(range(writes - 1)) + len(range(0, writes - 1, 5))
    step = frozen_step.FEWEST_OPERATIONS
    return {
        frozen_step.test_power_cut_in_the_step_leaves_the_copied_library_whole_or_gone.__name__: (
            len(range(step)) + len(range(0, step, 4)),
            True,
        ),
        frozen_step.test_unplugged_in_the_step_it_is_resumed.__name__: (
            frozen_step.UNPLUGGED,
            False,
        ),
        install.test_power_cut_in_an_installation_leaves_the_old_application_or_the_new.__name__: (
            cuts,
            True,
        ),
        install.test_unplugged_at_every_write_it_goes_on_where_it_stopped.__name__: (
            unplugged,
            True,
        ),
        install.test_power_cut_again_while_the_new_application_is_moved_in.__name__: (
            two * install.SECOND_CUTS,
            False,
        ),
    }


def test_every_test_has_one_row(collected: Counter[str]) -> None:
    assert len(collected) > 85
    listed = Counter(test for _, test, *_ in ROW.findall(PAGE))
    assert listed == Counter(dict.fromkeys(collected, 1))


def test_every_count_is_what_is_run(collected: Counter[str]) -> None:
    counted = {test: (number, False) for test, number in collected.items()} | in_loops()
    told = {test: (int(number), bool(more)) for _, test, number, more, _ in ROW.findall(PAGE)}
    assert told == counted


def test_every_row_is_read() -> None:
    """A row that the pattern does not fit would go unchecked."""
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    heads = [line for line in rows if line.startswith(("| fault", "|---"))]
    assert len(rows) - len(heads) == len(ROW.findall(PAGE))
