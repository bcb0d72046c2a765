"""A model of an Espressif chip in download mode: its serial protocol, its SPI flash in a file.

Written from public sources only; each rule names its own:

[SP] Espressif, "Serial Protocol",
     docs.espressif.com/projects/esptool/en/latest/esp32/advanced-topics/serial-protocol.html
[BM] Espressif, "Boot Mode Selection", same site, advanced-topics/boot-mode-selection.html
[ET] esptool 5, loader.py: what the tool expects where [SP] is silent
[W25] Winbond W25Q32JV data sheet, a NOR flash chip as it stands on most of these boards

What it is not: it runs no code. A stub that was uploaded whole and entered at the right address is
taken to be Espressif's, and the model then keeps to the stub's side of [SP].
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD  # [SP] "Low Level Protocol": SLIP

# [SP] "Commands"
FLASH_BEGIN, FLASH_DATA, FLASH_END = 0x02, 0x03, 0x04
MEM_BEGIN, MEM_END, MEM_DATA = 0x05, 0x06, 0x07
SYNC, WRITE_REG, READ_REG = 0x08, 0x09, 0x0A
SPI_SET_PARAMS, SPI_ATTACH, CHANGE_BAUDRATE = 0x0B, 0x0D, 0x0F
DEFL_BEGIN, DEFL_DATA, DEFL_END = 0x10, 0x11, 0x12
FLASH_MD5, SECURITY_INFO = 0x13, 0x14
ERASE_FLASH, ERASE_REGION = 0xD0, 0xD1  # stub only

# [SP] "Status bytes" and "Errors": what the ROM says, and what the stub says in its place.
INVALID, FAILED, BAD_CHECKSUM, INFLATE_FAILED = 0x05, 0x06, 0x07, 0x0B
_STUB_ERRORS = {INVALID: 0xC0, FAILED: 0xC6, BAD_CHECKSUM: 0xC1, INFLATE_FAILED: 0xC7}
_STUB_UNKNOWN = 0xFF

CHECKSUM_SEED = 0xEF  # [SP] "Checksum"
SYNC_PAYLOAD = b"\x07\x07\x12\x20" + 32 * b"\x55"  # [SP] SYNC
SYNC_ANSWERS = 8  # [ET] sync(): one answer and seven more
UNKNOWN_ANSWERS = 8  # [ET] command(): sent 8 times, 14 octets with both delimiters

SECTOR = 4096  # [W25] 8.2.17, Sector Erase (20h)
ROM_BLOCK, STUB_BLOCK = 0x400, 0x4000  # [SP] "Writing Data": 1 KB to the ROM, 16 KB to the stub
_SPI_USR = 1 << 18  # SPI_CMD_REG, ESP32 TRM "SPI Controller"
_RDID, _SFDP = 0x9F, 0x5A  # [W25] JEDEC ID, Read SFDP Register


class Failure(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(frozen=True)
class Chip:
    """What one chip differs by; addresses from its TRM, magic and ids from [ET] targets/."""

    name: str
    spi_base: int
    spi_offsets: dict[str, int]
    magic: int | None = None  # at 0x40001000, where there is no chip id
    chip_id: int | None = None  # in the answer to GET_SECURITY_INFO
    registers: dict[int, int] = field(default_factory=dict)
    stub_entry: int = 0


_SPI_ESP32 = {"cmd": 0x00, "addr": 0x04, "usr2": 0x24, "w0": 0x80}
_SPI_LATER = {"cmd": 0x00, "addr": 0x04, "usr2": 0x20, "w0": 0x58}

ESP32 = Chip(
    "ESP32", 0x3FF42000, _SPI_ESP32, magic=0x00F01D83,
    registers={0x3FF5A004: 0x3C112233, 0x3FF5A008: 0x0000240A},
)  # fmt: skip
ESP32_C3 = Chip("ESP32-C3", 0x60002000, _SPI_LATER, chip_id=5)
ESP32_C6 = Chip("ESP32-C6", 0x60003000, _SPI_LATER, chip_id=13)
ESP32_S3 = Chip("ESP32-S3", 0x60002000, _SPI_LATER, chip_id=9)


class NorFlash:
    """SPI NOR flash in a file: erasing sets bits, programming only clears them ([W25] 8.2.13)."""

    def __init__(self, file: Path, size: int) -> None:
        self.file, self.size = file, size
        if not file.exists():
            file.write_bytes(b"\xff" * size)
        self.erased = 0

    def read(self, offset: int, length: int) -> bytes:
        self._inside(offset, length)
        with self.file.open("rb") as opened:
            opened.seek(offset)
            return opened.read(length)

    def _inside(self, offset: int, length: int) -> None:
        if offset + length > self.size:
            raise Failure(FAILED)

    def _write(self, offset: int, data: bytes) -> None:
        with self.file.open("r+b") as opened:
            opened.seek(offset)
            opened.write(data)

    def erase(self, offset: int, length: int) -> None:
        """Erase every sector that the range touches."""
        start = offset // SECTOR * SECTOR
        end = -(-(offset + length) // SECTOR) * SECTOR
        self._inside(start, end - start)
        self._write(start, b"\xff" * (end - start))
        self.erased += (end - start) // SECTOR

    def program(self, offset: int, data: bytes) -> None:
        there = self.read(offset, len(data))
        both = int.from_bytes(there, "little") & int.from_bytes(data, "little")
        self._write(offset, both.to_bytes(len(data), "little"))


@dataclass
class Transfer:
    """What a BEGIN announced, and how far it has come."""

    size: int
    packets: int
    block: int
    offset: int
    compressed: bool = False
    next: int = 0
    written: int = 0
    erased_to: int = 0
    inflate: zlib._Decompress | None = None


@dataclass
class Faults:
    """What goes wrong, counted in requests that carry flash data (the first is 1)."""

    corrupt: set[int] = field(default_factory=set)  # a bit of the payload flips on the way
    lose_byte: set[int] = field(default_factory=set)  # an octet never arrives
    lose_answer: set[int] = field(default_factory=set)  # done, but nobody hears of it
    unplug: set[int] = field(default_factory=set)  # the cable comes out before it is done
    weak_bit_at: int | None = None  # a cell of the flash that does not take a 0


class EspModel:
    """The chip. Octets go in by :meth:`receive` and come out by ``send``."""

    def __init__(
        self,
        chip: Chip,
        flash: NorFlash,
        *,
        in_download_mode: bool = True,
        faults: Faults | None = None,
    ) -> None:
        self.chip, self.flash = chip, flash
        self.faults = faults or Faults()
        self.send: Callable[[bytes], None] = lambda data: None
        self.unplug: Callable[[], None] = lambda: None
        self.requests: list[int] = []  # the commands, in their order
        self.data_requests = 0
        self.boots: list[str] = []
        self.reset(download=in_download_mode)

    def reset(self, *, download: bool) -> None:
        """Start the ROM; the straps decide what follows ([BM])."""
        self.download = download
        self.stub = False
        self.ram: dict[int, int] = {}
        self.registers = dict(self.chip.registers)
        self.transfer: Transfer | None = None
        self.memory: Transfer | None = None
        self.synchronised = False
        self._frame: bytearray | None = None
        self._escaped = False
        self.boots.append("download" if download else "flash")
        # [BM] "Boot Log"
        kind = (
            "0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))"
            if download
            else "0x13 (SPI_FAST_FLASH_BOOT)"
        )
        said = f"\r\nrst:0x1 (POWERON_RESET),boot:{kind}\r\n"
        self.send((said + ("waiting for download\r\n" if download else "")).encode())

    # SLIP, [SP] "Low Level Protocol"

    def receive(self, data: bytes) -> None:
        if not self.download:
            return
        for octet in data:
            if octet == END:
                frame, self._frame = self._frame, None if self._frame else bytearray()
                if frame:
                    self._request(bytes(frame))
            elif self._frame is None:
                continue  # noise between frames
            elif self._escaped:
                self._escaped = False
                self._frame.append({ESC_END: END, ESC_ESC: ESC}.get(octet, octet))
            elif octet == ESC:
                self._escaped = True
            else:
                self._frame.append(octet)

    def _answer(
        self, command: int, value: int = 0, data: bytes = b"", status: bytes = b"\0\0"
    ) -> None:
        # [SP] "Response Packet": the ESP32's ROM ends with 4 status octets, the stub with 2.
        body = data + (status if self.stub else status + b"\0\0")
        packet = struct.pack("<BBHI", 1, command, len(body), value) + body
        packet = packet.replace(bytes((ESC,)), bytes((ESC, ESC_ESC)))
        packet = packet.replace(bytes((END,)), bytes((ESC, ESC_END)))
        self.send(bytes((END,)) + packet + bytes((END,)))

    def _fail(self, command: int, code: int) -> None:
        self._answer(
            command, status=bytes((1, _STUB_ERRORS.get(code, code) if self.stub else code))
        )

    # Requests, [SP] "Command Packet"

    def _request(self, frame: bytes) -> None:
        if len(frame) < 8:
            return
        direction, command, length, checksum = struct.unpack("<BBHI", frame[:8])
        data = frame[8:]
        if direction != 0:
            return
        self.requests.append(command)
        if command in (FLASH_DATA, DEFL_DATA):
            self.data_requests += 1
            if self.data_requests in self.faults.unplug:
                self.unplug()
                return
            if self.data_requests in self.faults.lose_byte:
                data = data[:-1]
            if self.data_requests in self.faults.corrupt:
                data = data[:-1] + bytes((data[-1] ^ 0x10,))
        try:
            if len(data) != length:
                raise Failure(INVALID)
            self._act(command, data, checksum)
        except Failure as failure:
            self._fail(command, failure.code)
        except struct.error:
            self._fail(command, INVALID)

    def _act(self, command: int, data: bytes, checksum: int) -> None:
        handler = self._handlers().get(command)
        if handler is None:
            self._unknown(command)
            return
        if command in (MEM_DATA, FLASH_DATA, DEFL_DATA):
            # [SP] "Checksum": these three only, over the data behind the 16 octets of header.
            self._check(data, checksum)
        value, body = handler(data) or (0, b"")
        if self.data_requests in self.faults.lose_answer and command in (FLASH_DATA, DEFL_DATA):
            self.faults.lose_answer.discard(self.data_requests)
            return
        if command != SYNC:
            self._answer(command, value, body)
        if command == MEM_END and self.stub is False and self._entered(data):
            self.stub = True
            self.send(bytes((END,)) + b"OHAI" + bytes((END,)))  # [SP] "Software loader"

    def _handlers(self) -> dict[int, Callable[[bytes], tuple[int, bytes] | None]]:
        known = {
            SYNC: self._sync, READ_REG: self._read_reg, WRITE_REG: self._write_reg,
            MEM_BEGIN: self._mem_begin, MEM_DATA: self._mem_data, MEM_END: self._mem_end,
            SPI_ATTACH: self._spi_attach, SPI_SET_PARAMS: self._set_params,
            CHANGE_BAUDRATE: self._change_baud,
            FLASH_BEGIN: self._flash_begin, FLASH_DATA: self._flash_data, FLASH_END: self._end,
            DEFL_BEGIN: self._defl_begin, DEFL_DATA: self._defl_data, DEFL_END: self._end,
            FLASH_MD5: self._md5,
        }  # fmt: skip
        if self.chip.chip_id is not None:
            known[SECURITY_INFO] = self._security_info
        if self.stub:
            known |= {ERASE_FLASH: self._erase_flash, ERASE_REGION: self._erase_region}
        return known

    def _unknown(self, command: int) -> None:
        if self.stub:
            self._answer(command, status=bytes((1, _STUB_UNKNOWN)))
            return
        for _ in range(UNKNOWN_ANSWERS):
            self._answer(0, status=bytes((1, INVALID)))

    def _check(self, data: bytes, checksum: int) -> None:
        length = struct.unpack("<I", data[:4])[0]
        if length != len(data) - 16:
            raise Failure(INVALID)
        found = CHECKSUM_SEED
        for octet in data[16:]:
            found ^= octet
        if found != checksum:
            raise Failure(BAD_CHECKSUM)

    def _sync(self, data: bytes) -> None:
        if data != SYNC_PAYLOAD:
            raise Failure(INVALID)
        self.synchronised = True
        for _ in range(SYNC_ANSWERS):
            self._answer(SYNC, 0 if self.stub else 0x20120707)  # [ET]: the stub's value is 0

    # Registers

    def _read_reg(self, data: bytes) -> tuple[int, bytes]:
        (address,) = struct.unpack("<I", data)
        if address == 0x40001000 and self.chip.magic is not None:
            return self.chip.magic, b""
        return self.registers.get(address, 0), b""

    def _write_reg(self, data: bytes) -> None:
        for at in range(0, len(data), 16):
            address, value, mask, _ = struct.unpack("<IIII", data[at : at + 16])
            kept = self.registers.get(address, 0) & ~mask
            self.registers[address] = kept | value & mask
            if address == self.chip.spi_base + self.chip.spi_offsets["cmd"] and value & _SPI_USR:
                self._spi_command()
                self.registers[address] = 0  # done

    def _spi(self, name: str) -> int:
        return self.registers.get(self.chip.spi_base + self.chip.spi_offsets[name], 0)

    def _spi_command(self) -> None:
        answer = 0
        if self._spi("usr2") & 0xFF == _RDID:
            capacity = self.flash.size.bit_length() - 1  # [W25]: 16h for 2^22 octets
            answer = capacity << 16 | 0x40 << 8 | 0xEF
        elif self._spi("usr2") & 0xFF == _SFDP and self._spi("addr") == 0:
            answer = int.from_bytes(b"SFDP", "little")
        self.registers[self.chip.spi_base + self.chip.spi_offsets["w0"]] = answer

    def _security_info(self, data: bytes) -> tuple[int, bytes]:
        # [SP] GET_SECURITY_INFO: flags, crypt count, key purposes, chip id, api version.
        return 0, struct.pack("<IB7sII", 0, 0, bytes(7), self.chip.chip_id, 0)

    def _spi_attach(self, data: bytes) -> None:
        if len(data) != (4 if self.stub else 8):
            raise Failure(INVALID)

    def _set_params(self, data: bytes) -> None:
        struct.unpack("<IIIIII", data)

    def _change_baud(self, data: bytes) -> None:
        struct.unpack("<II", data)

    # RAM

    def _mem_begin(self, data: bytes) -> None:
        self.memory = Transfer(*struct.unpack("<IIII", data))

    def _mem_data(self, data: bytes) -> None:
        seq = self._next(self.memory, data)
        for index, octet in enumerate(data[16:]):
            self.ram[self.memory.offset + seq * self.memory.block + index] = octet

    def _mem_end(self, data: bytes) -> None:
        execute, entry = struct.unpack("<II", data)
        if not execute and entry not in self.ram:
            raise Failure(FAILED)

    def _entered(self, data: bytes) -> bool:
        stay, entry = struct.unpack("<II", data)
        return not stay and entry in self.ram

    def _next(self, transfer: Transfer | None, data: bytes) -> int:
        """The packets of a transfer come in order, each once, none larger than announced."""
        if transfer is None or transfer.next >= transfer.packets:
            raise Failure(FAILED)
        seq = struct.unpack("<I", data[4:8])[0]
        if seq != transfer.next or len(data) - 16 > transfer.block:
            raise Failure(FAILED)
        transfer.next += 1
        return seq

    # Flash

    def _begin(self, data: bytes, *, compressed: bool) -> None:
        words = struct.unpack(f"<{len(data) // 4}I", data)
        # [SP] FLASH_BEGIN: a fifth word on all but the ESP32's ROM.
        if len(words) != (4 if self.chip.chip_id is None and not self.stub else 5):
            raise Failure(INVALID)
        transfer = Transfer(*words[:4], compressed=compressed)
        if transfer.block > (STUB_BLOCK if self.stub else ROM_BLOCK):
            raise Failure(FAILED)
        self.flash._inside(transfer.offset, transfer.size)
        if not self.stub:
            # [SP] FLASH_BEGIN: the ROM erases all of it up front, the stub as it writes.
            self.flash.erase(transfer.offset, transfer.size)
            transfer.erased_to = transfer.offset + transfer.size
        if compressed:
            transfer.inflate = zlib.decompressobj()
        self.transfer = transfer

    def _flash_begin(self, data: bytes) -> None:
        self._begin(data, compressed=False)

    def _defl_begin(self, data: bytes) -> None:
        self._begin(data, compressed=True)

    def _write(self, transfer: Transfer, data: bytes) -> None:
        left = max(0, transfer.size - transfer.written)
        if self.stub and len(data) > left:  # the last block is padded with FFh
            if data[left:].strip(b"\xff"):
                raise Failure(FAILED)
            data = data[:left]
        if not data:
            return
        start = transfer.offset + transfer.written
        if self.stub:
            begin = max(start, transfer.erased_to)
            if start + len(data) > begin:
                self.flash.erase(begin, start + len(data) - begin)
                transfer.erased_to = -(-(start + len(data)) // SECTOR) * SECTOR
        weak = self.faults.weak_bit_at
        if weak is not None and start <= weak < start + len(data):
            at = weak - start
            data = data[:at] + bytes((data[at] | 1,)) + data[at + 1 :]
        self.flash.program(start, data)
        transfer.written += len(data)

    def _flash_data(self, data: bytes) -> None:
        transfer = self._of(compressed=False)
        self._next(transfer, data)
        self._write(transfer, data[16:])

    def _defl_data(self, data: bytes) -> None:
        transfer = self._of(compressed=True)
        self._next(transfer, data)
        try:
            self._write(transfer, transfer.inflate.decompress(data[16:]))
        except zlib.error:
            raise Failure(INFLATE_FAILED) from None

    def _of(self, *, compressed: bool) -> Transfer:
        if self.transfer is None or self.transfer.compressed != compressed:
            raise Failure(FAILED)
        return self.transfer

    def _end(self, data: bytes) -> None:
        (stay,) = struct.unpack("<I", data)
        if self.transfer is None:
            raise Failure(FAILED)
        self.transfer = None
        if not self.stub or not stay:
            # [SP] FLASH_END: the ROM leaves download mode either way.
            self.download = self.stub
            self.stub = False

    def _md5(self, data: bytes) -> tuple[int, bytes]:
        address, size, _, _ = struct.unpack("<IIII", data)
        digest = hashlib.md5(self.flash.read(address, size))
        # [SP] SPI_FLASH_MD5: 32 hexadecimal digits from the ROM, 16 octets from the stub.
        return 0, digest.digest() if self.stub else digest.hexdigest().encode()

    def _erase_flash(self, data: bytes) -> None:
        self.flash.erase(0, self.flash.size)

    def _erase_region(self, data: bytes) -> None:
        self.flash.erase(*struct.unpack("<II", data))
