"""`make firmware-matrix` with the two builds that other tests here take: sizes and boots."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import firmware_matrix
from handfast.boards.firmware_options import ALL
from handfast.boards.rp2040_build import BOARD, build_firmware

pytestmark = pytest.mark.timeout(900)  # with the builds, beside another one


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build what other tests here take too."""
    for options in ((), ALL):
        build_firmware(options=options)


def test_each_build_is_measured_and_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "firmware-matrix.json"
    monkeypatch.setattr(firmware_matrix, "OUT", out)
    monkeypatch.setattr(firmware_matrix, "selections", lambda: [(), ALL])
    monkeypatch.setattr(sys, "argv", ["firmware-matrix"])
    assert firmware_matrix.main() == 0
    stock, full = json.loads(out.read_text())
    assert [stock["board"], full["board"]] == [BOARD, BOARD]
    assert [stock["options"], full["options"]] == [[], list(ALL)]
    assert stock["heap_bytes"] > full["heap_bytes"] > 0
    assert full["text_bytes"] > stock["text_bytes"] > 0


def test_stock_firmware_does_not_pass_for_fast_mbedtls_nor_the_other_way(tmp_path: Path) -> None:
    stock, full = (build_firmware(options=options) for options in ((), ALL))
    assert [firmware_matrix.is_fast(image) for image in (stock, full)] == [False, True]
    slow = tuple(option for option in ALL if option != "fast-mbedtls")
    assert firmware_matrix.boot_heap(stock, ("fast-mbedtls",), tmp_path) == 0
    assert firmware_matrix.boot_heap(full, slow, tmp_path) == 0
