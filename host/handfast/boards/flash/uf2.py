"""UF2 files, read and checked whole before a board sees a byte (github.com/microsoft/uf2)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from handfast.errors import Refused

BLOCK_BYTES: Final = 512
_HEADER: Final = struct.Struct("<8I")
_MAGIC_START: Final = (0x0A324655, 0x9E5D5157)
_MAGIC_END: Final = 0x0AB16F30
_NOT_MAIN_FLASH: Final = 0x0001
_FAMILY_PRESENT: Final = 0x2000
_MOST_PAYLOAD: Final = 476

# uf2families.json of the UF2 specification; RP2350 data sheet 5.5.3, "UF2 Targeting Rules".
RP2XXX_ABSOLUTE: Final = 0xE48BFF57
FAMILIES: Final = {
    0xE48BFF56: "RP2040",
    RP2XXX_ABSOLUTE: "RP2xxx, absolute",
    0xE48BFF58: "RP2xxx, data",
    0xE48BFF59: "RP2350, Arm, secure",
    0xE48BFF5A: "RP2350, RISC-V",
    0xE48BFF5B: "RP2350, Arm, non-secure",
}


@dataclass(frozen=True, slots=True)
class Uf2Image:
    """A whole UF2 file: its one family, its number of blocks, the addresses that it fills."""

    content: bytes
    family: int
    blocks: int
    start: int
    end: int

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield (address, data) of each block, in the file's order."""
        first = len(self.content) - self.blocks * BLOCK_BYTES  # behind that for an erratum
        for at in range(first, len(self.content), BLOCK_BYTES):
            block = _HEADER.unpack_from(self.content, at)
            address, size = block[3], block[4]
            yield address, self.content[at + _HEADER.size : at + _HEADER.size + size]


@dataclass(frozen=True, slots=True)
class _Block:
    flags: int
    address: int
    size: int
    number: int
    count: int
    family: int


def family_name(family: int) -> str:
    """Return a family's name and number."""
    return f"{FAMILIES.get(family, 'unknown')} ({family:#010x})"


def read_uf2(content: bytes, *, source: str) -> Uf2Image:
    """Read a UF2 file; the block for erratum RP2350-E10 that may stand first is allowed.

    Args:
        content: the whole file.
        source: what messages call it.

    Raises:
        Refused: a magic number is wrong, a block is missing, twice or out of order, or the file
            holds more than one family or none.
    """
    if not content or len(content) % BLOCK_BYTES:
        raise Refused(f"{source} is not a UF2 file, or only a part of one: download it again")
    blocks = [_block(content, at, source) for at in range(0, len(content), BLOCK_BYTES)]
    if blocks[0].family == RP2XXX_ABSOLUTE and len(blocks) > 1:
        blocks = blocks[1:]  # RP2350 data sheet, appendix E, RP2350-E10
    families = {block.family for block in blocks}
    if len(families) != 1:
        named = ", ".join(sorted(map(family_name, families)))
        raise Refused(f"{source} is for more than one kind of chip ({named})")
    for index, block in enumerate(blocks):
        if (block.number, block.count) != (index, len(blocks)):
            raise Refused(
                f"{source} is damaged: block {index} of {len(blocks)} calls itself "
                f"{block.number} of {block.count}; download it again"
            )
    start = min(block.address for block in blocks)
    end = max(block.address + block.size for block in blocks)
    return Uf2Image(content, families.pop(), len(blocks), start, end)


def _block(content: bytes, at: int, source: str) -> _Block:
    *magic, flags, address, size, number, count, family = _HEADER.unpack_from(content, at)
    (end,) = struct.unpack_from("<I", content, at + BLOCK_BYTES - 4)
    if tuple(magic) != _MAGIC_START or end != _MAGIC_END or size > _MOST_PAYLOAD:
        raise Refused(f"{source} is not a UF2 file, or damaged at byte {at}: download it again")
    if not flags & _FAMILY_PRESENT or flags & _NOT_MAIN_FLASH:
        raise Refused(f"{source} does not say for which chip it is: take one that does")
    return _Block(flags, address, size, number, count, family)


def refuse_wrong_family(
    image: Uf2Image, families: Collection[int], *, source: str, board: str
) -> None:
    """Refuse an image of a family that ``board`` does not take.

    Raises:
        Refused: it is another chip's; nothing has been written.
    """
    if image.family not in families:
        wanted = " or ".join(map(family_name, sorted(families)))
        raise Refused(f"{source} is for {family_name(image.family)}, but {board} takes {wanted}")
