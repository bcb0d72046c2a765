"""A model of the ESP32-C3's eFuse controller: registers of the ROM model that burn for good.

Written from the ESP32-C3 Technical Reference Manual, chapter "eFuse Controller": programming takes
the data registers into the block that the command names and only ever sets bits, what was burned is
seen after a read command, and a read-protected key reads as zeros.
"""

from __future__ import annotations

BASE = 0x60008800
DATA_WORDS = 8
CONFIG, COMMAND = BASE + 0x1CC, BASE + 0x1D4
PROGRAM, READ = 0x5A5A, 0x5AA5  # operation codes in CONFIG
READ_BIT, PROGRAM_BIT = 0x1, 0x2  # of COMMAND, with the block's number above them
# Where the blocks are read: BLOCK0 and BLOCK1 have six words each, the others eight.
BLOCKS = [BASE + 0x2C, BASE + 0x44, *range(BASE + 0x5C, BASE + 0x5C + 9 * 0x20, 0x20)]
WORDS = [6, 6, *[8] * 9]
KEY0 = 4  # BLOCK_KEY0 is the fourth block; bit n of RD_DIS protects BLOCK_KEYn


class EfuseModel(dict[int, int]):
    """The registers of a chip; ``burned`` is block → its words, of those that were burned."""

    def __init__(self, registers: dict[int, int]) -> None:
        super().__init__(registers)
        self.burned: dict[int, list[int]] = {}

    def __setitem__(self, address: int, value: int) -> None:
        super().__setitem__(address, value)
        if address == COMMAND:
            if value & PROGRAM_BIT and self.get(CONFIG) == PROGRAM:
                self._program(value >> 2 & 0xF)
            if value & READ_BIT and self.get(CONFIG) == READ:
                self._read()
            super().__setitem__(COMMAND, 0)  # done

    def _program(self, block: int) -> None:
        words = self.burned.setdefault(block, [0] * DATA_WORDS)
        for number in range(DATA_WORDS):
            words[number] |= self.get(BASE + 4 * number, 0)

    def _read(self) -> None:
        hidden = self.burned.get(0, [0, 0])[1] & 0x7F
        for block, words in self.burned.items():
            is_hidden = block >= KEY0 and hidden >> (block - KEY0) & 1
            for number in range(WORDS[block]):
                value = 0 if is_hidden else words[number]
                super().__setitem__(BLOCKS[block] + 4 * number, value)
