"""What Espressif's "Serial Protocol" says, as scenarios that a model of the chip must pass.

Each takes the model's module, so that a mutant can be put in its place; frames are spelled here by
hand, not with the model's own code.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

FLASH_BYTES = 1 << 22
SYNC = bytes.fromhex("07071220") + b"\x55" * 32
STUB_TEXT, STUB_START = bytes(range(200)), 0x4008E000


class Talk:
    """A chip without a line: requests go in by hand, answers are taken apart."""

    def __init__(self, module: ModuleType, chip: str = "ESP32", *, stub: bool = False) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.flash = module.NorFlash(Path(self.folder.name, "flash.bin"), FLASH_BYTES)
        self.model = module.EspModel(getattr(module, chip), self.flash)
        self.sent = bytearray()
        self.model.send = self.sent.extend
        if stub:
            self.begin(5, len(STUB_TEXT), 1, 0x1800, STUB_START)
            self.data(7, STUB_TEXT)
            self.ask(6, struct.pack("<II", 0, STUB_START))

    def raw(self, frame: bytes) -> list[bytes]:
        """Send octets as they are; return the frames that came, unescaped."""
        self.sent.clear()
        self.model.receive(frame)
        frames = [part for part in bytes(self.sent).split(b"\xc0") if part]
        return [part.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb") for part in frames]

    def ask(self, command: int, data: bytes = b"", checksum: int = 0) -> list[tuple[int, ...]]:
        """Return (command, value, data) of each answer to a request."""
        packet = struct.pack("<BBHI", 0, command, len(data), checksum) + data
        packet = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
        answers = []
        for frame in self.raw(b"\xc0" + packet + b"\xc0"):
            if frame == b"OHAI":
                answers.append((0, 0, frame))
                continue
            direction, answered, length, value = struct.unpack("<BBHI", frame[:8])
            assert direction == 1
            assert length == len(frame) - 8
            answers.append((answered, value, frame[8:]))
        return answers

    def ok(self, command: int, data: bytes = b"", checksum: int = 0) -> tuple[int, bytes]:
        ((answered, value, body),) = self.ask(command, data, checksum)
        assert answered == command
        status = 2 if self.model.stub else 4
        assert body[len(body) - status :] == bytes(status)
        return value, body[: len(body) - status]

    def error(self, command: int, data: bytes = b"", checksum: int = 0) -> int:
        ((answered, _, body),) = self.ask(command, data, checksum)
        assert answered == command
        assert len(body) == (2 if self.model.stub else 4)
        assert body[0] == 1
        return body[1]

    def begin(self, command: int, *words: int) -> None:
        self.ok(command, struct.pack(f"<{len(words)}I", *words))

    def packet(self, data: bytes, seq: int = 0) -> tuple[bytes, int]:
        checksum = 0xEF
        for octet in data:
            checksum ^= octet
        return struct.pack("<IIII", len(data), seq, 0, 0) + data, checksum

    def data(self, command: int, data: bytes, seq: int = 0) -> None:
        self.ok(command, *self.packet(data, seq))


def sync_is_answered_eight_times(module: ModuleType) -> None:
    talk = Talk(module)
    answers = talk.ask(8, SYNC)
    assert [answer[0] for answer in answers] == [8] * 8
    assert all(answer[1] for answer in answers)
    assert talk.error(8, SYNC[:-1] + b"T") == 5
    stub = Talk(module, stub=True)
    assert {answer[1] for answer in stub.ask(8, SYNC)} == {0}


def slip_escapes_both_ways(module: ModuleType) -> None:
    talk = Talk(module)
    value = 0xC0DBDCDD
    talk.ok(9, struct.pack("<IIII", 0x3FF00000, value, 0xFFFFFFFF, 0))
    assert talk.ok(10, struct.pack("<I", 0x3FF00000))[0] == value
    assert b"\xdd\xdc\xdb\xdd\xdb\xdc\xc0" not in talk.sent
    assert b"\xdd\xdc\xdb\xdd\xdb\xdc" in talk.sent


def noise_and_half_frames_are_passed_over(module: ModuleType) -> None:
    talk = Talk(module)
    assert talk.raw(b"\x55\x00garbage") == []
    assert talk.raw(b"\xc0\x00\x08\xc0") == []
    assert talk.raw(b"\xc0\x01\x08\x00\x00\x00\x00\x00\x00\xc0") == []
    assert len(talk.ask(8, SYNC)) == 8


def a_length_that_is_not_the_datas_is_invalid(module: ModuleType) -> None:
    talk = Talk(module)
    (answer,) = talk.raw(b"\xc0" + struct.pack("<BBHI", 0, 10, 5, 0) + bytes(4) + b"\xc0")
    assert answer[8:10] == b"\x01\x05"


def a_wrong_checksum_is_refused_and_nothing_is_written(module: ModuleType) -> None:
    for stub, code in ((False, 0x07), (True, 0xC1)):
        talk = Talk(module, stub=stub)
        talk.begin(2, 1024, 1, 1024, 0, *([0] if stub else []))
        data, checksum = talk.packet(b"\x11" * 1024)
        assert talk.error(3, data, checksum ^ 1) == code
        assert talk.flash.read(0, 1024) == b"\xff" * 1024
        talk.ok(3, data, checksum)
        assert talk.flash.read(0, 1024) == b"\x11" * 1024


def the_inner_length_counts_too(module: ModuleType) -> None:
    talk = Talk(module)
    talk.begin(2, 1024, 1, 1024, 0)
    data, checksum = talk.packet(b"\x11" * 1024)
    assert talk.error(3, struct.pack("<I", 1000) + data[4:], checksum) == 5


def a_write_keeps_the_bits_outside_its_mask(module: ModuleType) -> None:
    talk = Talk(module)
    talk.ok(9, struct.pack("<IIII", 0x3FF00000, 0xAAAAAAAA, 0xFFFFFFFF, 0))
    talk.ok(9, struct.pack("<IIII", 0x3FF00000, 0x55555555, 0x0000FFFF, 0))
    assert talk.ok(10, struct.pack("<I", 0x3FF00000))[0] == 0xAAAA5555


def chips_say_who_they_are(module: ModuleType) -> None:
    magic = struct.pack("<I", 0x40001000)
    assert Talk(module).ok(10, magic)[0] == 0x00F01D83
    for chip, number in (("ESP32_C3", 5), ("ESP32_S3", 9), ("ESP32_C6", 13)):
        _, body = Talk(module, chip).ok(0x14)
        assert len(body) == 20
        assert struct.unpack("<I", body[12:16])[0] == number


def an_unknown_command_is_invalid(module: ModuleType) -> None:
    answers = Talk(module).ask(0x14)
    assert len(answers) == 8
    assert all(answer[2] == b"\x01\x05\x00\x00" for answer in answers)
    assert Talk(module, stub=True).error(0x77) == 0xFF
    assert Talk(module).ask(0xD0)[0][2][:1] == b"\x01", "erasing all is the stub's"


def the_rom_erases_up_front(module: ModuleType) -> None:
    talk = Talk(module)
    talk.flash.program(0, bytes(0x4000))
    talk.begin(2, 0x1800, 6, 0x400, 0x1000)
    assert talk.flash.read(0x1000, 0x2000) == b"\xff" * 0x2000, "whole sectors"
    assert talk.flash.read(0, 0x1000) + talk.flash.read(0x3000, 0x1000) == bytes(0x2000)


def the_stub_erases_as_it_writes(module: ModuleType) -> None:
    talk = Talk(module, stub=True)
    talk.flash.program(0, bytes(0x8000))
    talk.begin(2, 0x4800, 2, 0x4000, 0x1000, 0)
    assert talk.flash.read(0, 0x8000) == bytes(0x8000)
    talk.data(3, b"\x22" * 0x4000)
    talk.data(3, b"\x33" * 0x800 + b"\xff" * 0x3800, 1)
    whole = talk.flash.read(0x1000, 0x5000)
    assert whole == b"\x22" * 0x4000 + b"\x33" * 0x800 + b"\xff" * 0x800
    assert talk.flash.read(0x6000, 0x1000) == bytes(0x1000)


def programming_only_clears_bits(module: ModuleType) -> None:
    talk = Talk(module)
    talk.flash.program(0x100, b"\x0f")
    talk.flash.program(0x100, b"\x3c")
    assert talk.flash.read(0x100, 1) == b"\x0c"


def packets_come_in_order_each_once(module: ModuleType) -> None:
    talk = Talk(module)
    talk.begin(2, 0x800, 2, 0x400, 0)
    assert talk.error(3, *talk.packet(b"\x01" * 0x400, 1)) == 6
    talk.data(3, b"\x01" * 0x400)
    assert talk.error(3, *talk.packet(b"\x01" * 0x400)) == 6
    talk.data(3, b"\x02" * 0x400, 1)
    assert talk.error(3, *talk.packet(b"\x03" * 0x400, 2)) == 6
    assert talk.flash.read(0, 0x800) == b"\x01" * 0x400 + b"\x02" * 0x400


def data_without_a_begin_is_refused(module: ModuleType) -> None:
    assert Talk(module).error(3, *Talk(module).packet(bytes(16))) == 6
    assert Talk(module).error(0x11, *Talk(module).packet(bytes(16))) == 6
    assert Talk(module, stub=True).error(3, *Talk(module).packet(bytes(16))) == 0xC6
    talk = Talk(module)
    talk.begin(2, 0x400, 1, 0x400, 0)
    assert talk.error(0x11, *talk.packet(bytes(16))) == 6, "not of the other kind"


def blocks_have_a_largest_size(module: ModuleType) -> None:
    talk = Talk(module)
    assert talk.error(2, struct.pack("<IIII", 0x4000, 1, 0x4000, 0)) == 6
    talk.begin(2, 0x400, 2, 0x200, 0)
    assert talk.error(3, *talk.packet(bytes(0x400))) == 6
    Talk(module, stub=True).begin(2, 0x4000, 1, 0x4000, 0, 0)


def all_but_the_esp32s_rom_take_a_fifth_word(module: ModuleType) -> None:
    four, five = struct.pack("<IIII", 0x400, 1, 0x400, 0), struct.pack("<5I", 0x400, 1, 0x400, 0, 0)
    assert Talk(module).error(2, five) == 5
    assert Talk(module, "ESP32_C3").error(2, four) == 5
    Talk(module).ok(2, four)
    Talk(module, "ESP32_C3").ok(2, five)


def compressed_data_runs_across_blocks(module: ModuleType) -> None:
    for stub in (False, True):
        talk = Talk(module, stub=stub)
        plain = hashlib.shake_128(b"x").digest(1500) + bytes(2000)
        packed = zlib.compress(plain, 9)
        talk.begin(0x10, 4096, 2, 0x400, 0x2000, *([0] if stub else []))
        talk.data(0x11, packed[:1024])
        talk.data(0x11, packed[1024:], 1)
        assert talk.flash.read(0x2000, len(plain)) == plain


def what_does_not_inflate_is_said_so(module: ModuleType) -> None:
    talk = Talk(module)
    talk.begin(0x10, 4096, 1, 0x400, 0)
    assert talk.error(0x11, *talk.packet(b"\xff" * 100)) == 0x0B


def md5_is_hexadecimal_from_the_rom_and_binary_from_the_stub(module: ModuleType) -> None:
    for stub in (False, True):
        talk = Talk(module, stub=stub)
        talk.flash.program(0x1000, b"abc")
        _, body = talk.ok(0x13, struct.pack("<IIII", 0x1000, 3, 0, 0))
        digest = hashlib.md5(b"abc")  # noqa: S324
        assert body == (digest.digest() if stub else digest.hexdigest().encode())


def nothing_reaches_beyond_the_flash(module: ModuleType) -> None:
    talk = Talk(module)
    assert talk.error(2, struct.pack("<IIII", 0x1000, 4, 0x400, FLASH_BYTES)) == 6
    assert talk.error(0x13, struct.pack("<IIII", FLASH_BYTES - 2, 3, 0, 0)) == 6


def the_stub_says_ohai_where_it_was_put(module: ModuleType) -> None:
    talk = Talk(module)
    talk.begin(5, len(STUB_TEXT), 1, 0x1800, STUB_START)
    talk.data(7, STUB_TEXT)
    assert talk.error(6, struct.pack("<II", 0, STUB_START + 0x1000)) == 6
    answer, greeting = talk.ask(6, struct.pack("<II", 0, STUB_START))
    assert answer[2] == bytes(4), "the ROM still answers"
    assert greeting[2] == b"OHAI"
    assert bytes(talk.model.ram[STUB_START + at] for at in range(200)) == STUB_TEXT
    stays = Talk(module)
    stays.begin(5, len(STUB_TEXT), 1, 0x1800, STUB_START)
    stays.data(7, STUB_TEXT)
    stays.ok(6, struct.pack("<II", 1, STUB_START))
    assert not stays.model.stub


def the_flash_chip_is_asked_over_spi(module: ModuleType) -> None:
    for chip, base, usr2, w0 in (
        ("ESP32", 0x3FF42000, 0x24, 0x80),
        ("ESP32_C3", 0x60002000, 0x20, 0x58),
    ):
        talk = Talk(module, chip)

        def write(offset: int, value: int) -> None:
            talk.ok(9, struct.pack("<IIII", base + offset, value, 0xFFFFFFFF, 0))  # noqa: B023

        write(usr2, 7 << 28 | 0x9F)
        write(0, 1 << 18)
        assert talk.ok(10, struct.pack("<I", base))[0] == 0, "done"
        assert talk.ok(10, struct.pack("<I", base + w0))[0] == 0x1640EF
        write(usr2, 7 << 28 | 0x5A)
        write(0, 1 << 18)
        assert talk.ok(10, struct.pack("<I", base + w0))[0] == 0x50444653


def the_stub_erases_on_request(module: ModuleType) -> None:
    talk = Talk(module, stub=True)
    talk.flash.program(0, bytes(0x4000))
    talk.ok(0xD1, struct.pack("<II", 0x1000, 0x1000))
    assert talk.flash.read(0, 0x4000) == bytes(0x1000) + b"\xff" * 0x1000 + bytes(0x2000)
    talk.ok(0xD0)
    assert not talk.flash.read(0, FLASH_BYTES).strip(b"\xff")


def the_end_leaves_download_mode(module: ModuleType) -> None:
    talk = Talk(module)
    assert talk.error(4, struct.pack("<I", 1)) == 6
    talk.begin(2, 0x400, 1, 0x400, 0)
    talk.ask(4, struct.pack("<I", 1))
    assert talk.ask(8, SYNC) == []
    stub = Talk(module, stub=True)
    stub.begin(2, 0x400, 1, 0x400, 0, 0)
    stub.ok(4, struct.pack("<I", 1))
    assert len(stub.ask(8, SYNC)) == 8


def a_reset_says_how_it_boots(module: ModuleType) -> None:
    talk = Talk(module, stub=True)
    talk.sent.clear()
    talk.model.reset(download=True)
    assert b"boot:0x3 (DOWNLOAD_BOOT" in talk.sent
    assert talk.sent.endswith(b"waiting for download\r\n")
    assert all(answer[1] for answer in talk.ask(8, SYNC)), "the stub is gone"
    talk.sent.clear()
    talk.model.reset(download=False)
    assert b"waiting" not in talk.sent
    assert b"SPI_FAST_FLASH_BOOT" in talk.sent
    assert talk.ask(8, SYNC) == []


SCENARIOS: tuple[Callable[[ModuleType], None], ...] = tuple(
    value for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and name != "Talk"
)  # fmt: skip
