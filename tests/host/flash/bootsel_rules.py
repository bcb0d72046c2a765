"""What the UF2 specification and the data sheets say of the BOOTSEL drive, as scenarios.

Each takes the model's module, so that a mutant can be put in its place; blocks are spelled here by
hand, not with the model's own code.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

RP2040_FAMILY, RP2350_FAMILY = 0xE48BFF56, 0xE48BFF59
_SETTLE_S = 10.0


@contextmanager
def plugged(module: ModuleType, chip: str = "RP2040") -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as root:
        model = module.BootselModel(getattr(module, chip), Path(root))
        try:
            yield model
        finally:
            model.close()


def block(page: int, count: int = 2, /, **changes: int) -> bytes:
    fields = {
        "magic0": 0x0A324655,
        "magic1": 0x9E5D5157,
        "flags": 0x2000,
        "address": 0x10000000 + 256 * page,
        "size": 256,
        "number": page,
        "count": count,
        "family": RP2040_FAMILY,
        "end": 0x0AB16F30,
    } | changes
    end = fields.pop("end")
    data = bytes((page + 1,)) * 256
    return struct.pack("<8I", *fields.values()) + data + bytes(220) + struct.pack("<I", end)


def untouched(model: Any) -> bool:
    return set(model.flash) == {0xAA} and not model.restarted.is_set()


def a_sector_is_erased_once_and_alone(module: ModuleType) -> None:
    with plugged(module) as model:
        model.take(block(0, 3))
        model.take(block(1, 3))
        assert model.flash[:512] == b"\x01" * 256 + b"\x02" * 256
        assert model.flash[512:4096] == b"\xff" * 3584
        assert set(model.flash[4096:]) == {0xAA}
        model.take(block(16, 3, number=2))
        assert model.flash[4096:8192] == b"\x11" * 256 + b"\xff" * 3840


def blocks_without_their_magic_numbers_are_ignored(module: ModuleType) -> None:
    for changes in ({"magic0": 0}, {"magic1": 0}, {"end": 0}):
        with plugged(module) as model:
            model.take(block(0, 1, **changes))
            assert untouched(model)


def blocks_for_elsewhere_are_ignored(module: ModuleType) -> None:
    for changes in (
        {"flags": 0}, {"flags": 0x2001}, {"family": RP2350_FAMILY}, {"family": 0xE48BFF57},
        {"size": 255}, {"size": 476}, {"address": 0x10000080}, {"address": 0x0FFFFF00},
        {"address": 0x10100000}, {"address": 0x20000000}, {"number": 1},
    ):  # fmt: skip
        with plugged(module) as model:
            model.take(block(0, 1, **changes))
            assert untouched(model), changes
            assert model.ignored == 1


def the_last_page_of_the_flash_is_taken(module: ModuleType) -> None:
    with plugged(module) as model:
        model.take(block(0, 1, address=0x100FFF00))
        assert model.flash[-256:] == b"\x01" * 256


def each_chip_takes_its_own_families(module: ModuleType) -> None:
    with plugged(module, "RP2350") as model:
        model.take(block(0, 1))
        assert untouched(model)
        model.take(block(0, 1, family=RP2350_FAMILY))
        assert model.restarted.is_set()


def the_block_for_erratum_e10_is_dropped(module: ModuleType) -> None:
    with plugged(module, "RP2350") as model:
        model.take(block(0, 2, family=0xE48BFF57, address=0x10000000))
        assert untouched(model)
        model.take(block(0, 1, family=0xE48BFF57))
        assert model.restarted.is_set(), "any other of that family is not"


def order_does_not_matter_and_a_block_counts_once(module: ModuleType) -> None:
    with plugged(module) as model:
        model.take(block(1))
        model.take(block(1))
        assert not model.restarted.is_set()
        model.take(block(0))
        assert model.restarted.is_set()
        assert model.flash[:512] == b"\x01" * 256 + b"\x02" * 256


def another_count_begins_another_file(module: ModuleType) -> None:
    with plugged(module) as model:
        model.take(block(0, 2))
        model.take(block(1, 3))
        model.take(block(2, 3))
        assert not model.restarted.is_set()
        model.take(block(0, 3))
        assert model.restarted.is_set()


def a_block_is_taken_when_it_is_whole(module: ModuleType) -> None:
    with plugged(module) as model:
        whole = block(0, 2) + block(1, 2)
        with (model.folder / "A.UF2").open("wb", buffering=0) as file:
            file.write(whole[:700])
            model.settle_at(512)
            assert model.flash[:256] == b"\x01" * 256
            assert not model.restarted.is_set()
            file.write(whole[700:])
            assert model.restarted.wait(_SETTLE_S)


def a_whole_file_is_programmed_and_restarts_the_chip(module: ModuleType) -> None:
    with plugged(module) as model:
        (model.folder / "A.UF2").write_bytes(block(0) + block(1))
        assert model.restarted.wait(_SETTLE_S)
        assert model.flash[:512] == b"\x01" * 256 + b"\x02" * 256
        assert not model.folder.exists()


def the_drive_says_what_it_is(module: ModuleType) -> None:
    for chip, label, board_id in (("RP2040", "RPI-RP2", "RPI-RP2"), ("RP2350", "RP2350", "RP2350")):
        with plugged(module, chip) as model:
            assert model.folder.name == label
            text = (model.folder / "INFO_UF2.TXT").read_text()
            assert text.startswith("UF2 Bootloader v")
            assert f"Board-ID: {board_id}\n" in text


SCENARIOS: tuple[Callable[[ModuleType], None], ...] = tuple(
    value for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__
    and name not in ("plugged", "block", "untouched")
)  # fmt: skip
