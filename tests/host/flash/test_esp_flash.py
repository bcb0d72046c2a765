"""The real esptool flashes a model of the chip; the flash is compared byte by byte."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from esp_rom_model import (
    DEFL_DATA,
    ESP32,
    ESP32_C3,
    ESP32_C6,
    ESP32_S3,
    FLASH_DATA,
    SECTOR,
    Faults,
)
from flash_support import FLASH_BYTES, Told, esp_content

from handfast.boards.flash import bootloader
from handfast.boards.flash.esp import SEGMENT_BYTES, flash_esp, segments
from handfast.boards.flash.esp_image import read_esp_image
from handfast.boards.serial_port import open_line
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem, Refused, UsageError

sys.path.append(str(Path(__file__).parents[1] / "serial"))
from cable import NativePort

CONTENT = esp_content()


def flash(bench, content=CONTENT, progress=lambda *_: None):
    image = read_esp_image(content, source="image")
    return flash_esp(image, bench.job, source="image", progress=progress)


def resets_lead_to_the_loader_and_back(model):
    """Only DTR and RTS bring this chip to its loader; a try that fails starts its application."""
    assert "download" in model.boots
    assert model.boots[0] == model.boots[-1] == "flash"


@pytest.mark.parametrize("tcp", [False, True], ids=["pty", "rfc2217"])
def test_an_image_arrives_byte_by_byte(bench, tcp):
    it = bench(tcp=tcp)
    told = Told()
    done = flash(it, progress=told)
    assert it.flash(len(CONTENT)) == CONTENT
    assert told.steps() == ["connect", "write", "verify"]
    assert [step for step, _ in told].count("write") == len(list(segments(0x1000, len(CONTENT))))
    assert (done.chip, done.mac) == ("esp32", "24:0a:3c:11:22:33")
    assert (done.written, done.kept, done.attempts) == (len(CONTENT), 0, 1)
    assert DEFL_DATA in it.model.requests  # compressed
    if tcp:
        resets_lead_to_the_loader_and_back(it.model)


def test_a_chips_own_usb_takes_other_signals(bench):
    it = bench(ESP32_C3, tcp=True, native_usb=True, before="usb-reset", offset=0)
    content = esp_content("ESP32-C3", 40_001)
    flash(it, content)
    assert it.flash(len(content), offset=0) == content
    resets_lead_to_the_loader_and_back(it.model)


@pytest.mark.parametrize("chip", [ESP32_C3, ESP32_C6, ESP32_S3], ids=lambda chip: chip.name)
def test_later_chips_have_a_chip_id_and_start_at_0(bench, chip):
    it = bench(chip, offset=0)
    content = esp_content(chip.name)
    flash(it, content)
    assert it.flash(len(content), offset=0) == content


@pytest.mark.parametrize("chip", [ESP32, ESP32_C3], ids=lambda chip: chip.name)
def test_the_rom_alone_does_it_too(bench, chip):
    it = bench(chip, stub=False, offset=0x1000 if chip is ESP32 else 0)
    content = esp_content(chip.name, 70_001)
    flash(it, content)
    assert it.flash(len(content), offset=it.job.offset) == content
    assert FLASH_DATA in it.model.requests
    assert not it.model.stub


def test_what_stood_there_is_erased_and_its_neighbours_stay(bench):
    it = bench()
    it.model.flash.program(0, bytes(FLASH_BYTES))
    flash(it)
    assert it.flash(len(CONTENT)) == CONTENT
    end = -(-(0x1000 + len(CONTENT)) // SECTOR) * SECTOR
    assert it.flash(0x1000, offset=0) == bytes(0x1000)
    assert it.flash(FLASH_BYTES - end, offset=end) == bytes(FLASH_BYTES - end)


def test_on_request_all_is_erased_first(bench):
    it = bench(erase=True)
    it.model.flash.program(0, bytes(FLASH_BYTES))
    flash(it)
    assert it.flash(len(CONTENT)) == CONTENT
    after = 0x1000 + len(CONTENT)
    assert not it.flash(FLASH_BYTES - after, offset=after).strip(b"\xff")


def test_without_its_flasher_the_chip_cannot_be_erased(bench):
    it = bench(erase=True, stub=False)
    with pytest.raises(Refused, match="--no-stub"):
        flash(it)
    assert not it.flash(FLASH_BYTES, offset=0).strip(b"\xff")


@pytest.mark.parametrize("chip", [ESP32_C3, ESP32], ids=lambda chip: chip.name)
def test_an_image_for_another_chip_is_refused_before_the_port_is_opened(bench, chip):
    it = bench(chip)
    with pytest.raises(Refused, match="is built for esp32s3, the board has esp32"):
        flash(it, esp_content("ESP32-S3"))
    assert it.model.requests == []


@pytest.mark.parametrize("tcp", [False, True], ids=["pty", "rfc2217"])
def test_a_board_that_is_another_chip_is_refused(bench, tcp):
    it = bench(ESP32_C3, board="esp32", tcp=tcp)
    with pytest.raises(Refused, match=r"is ESP32-C3 .* not esp32"):
        flash(it)
    assert not it.flash(FLASH_BYTES, offset=0).strip(b"\xff")


def test_an_image_that_does_not_fit_is_refused(bench):
    it = bench()
    with pytest.raises(Refused, match="ends at 0x"):
        flash(it, esp_content(length=FLASH_BYTES))
    assert not it.flash(FLASH_BYTES, offset=0).strip(b"\xff")


def test_an_application_without_its_bootloader_is_refused(bench):
    it = bench()
    for alone in (CONTENT[:0x7000] + bytes(2) + CONTENT[0x7002:], CONTENT[:0x7000]):
        with pytest.raises(Refused, match="without its bootloader"):
            flash(it, alone)
    assert it.model.requests == []


def test_an_image_begins_at_a_sector(bench):
    it = bench(offset=0x1001)
    with pytest.raises(UsageError, match="0x1001"):
        flash(it)
    assert it.model.requests == []


@pytest.mark.parametrize(
    ("registers", "burned"),
    [({0x3FF5A000: 1 << 20}, "flash encryption"), ({0x3FF5A018: 1 << 4}, "secure boot")],
)
def test_a_chip_with_burned_security_fuses_is_refused(bench, registers, burned):
    it = bench(replace(ESP32, registers=ESP32.registers | registers))
    with pytest.raises(Refused, match=f"{burned} switched on for good"):
        flash(it)
    assert not it.flash(FLASH_BYTES, offset=0).strip(b"\xff")


@pytest.mark.parametrize(
    ("stub", "tcp"), [(True, False), (False, False), (True, True)], ids=["stub", "rom", "rfc2217"]
)
@pytest.mark.parametrize("fault", ["corrupt", "lose_byte"])
def test_a_bad_octet_is_sent_again(bench, fault, stub, tcp):
    it = bench(faults=Faults(**{fault: {2, 5}}), stub=stub, tcp=tcp)
    done = flash(it)
    assert it.flash(len(CONTENT)) == CONTENT
    assert done.attempts == 1


@pytest.mark.parametrize("tcp", [False, True], ids=["pty", "rfc2217"])
def test_a_lost_answer_costs_one_segment(bench, tcp):
    it = bench(faults=Faults(lose_answer={3}), tcp=tcp)
    done = flash(it)
    assert it.flash(len(CONTENT)) == CONTENT
    assert done.attempts == 2


@pytest.mark.parametrize(
    ("request_number", "stub", "tcp"),
    [(at, stub, False) for at in (1, 3, 5) for stub in (True, False)] + [(3, True, True)],
)
def test_unplugged_in_the_middle_it_goes_on_where_it_was(bench, request_number, stub, tcp):
    it = bench(faults=Faults(unplug={request_number}), stub=stub, tcp=tcp)
    done = flash(it)
    assert it.flash(len(CONTENT)) == CONTENT
    assert done.attempts == 2
    sectors = -(-len(CONTENT) // SECTOR)
    assert it.model.flash.erased <= sectors + SEGMENT_BYTES // SECTOR, "one segment twice, at most"


def test_unplugged_for_good_the_next_run_writes_the_rest(bench):
    it = bench(faults=Faults(unplug={4}), back_within_s=0.5)
    it.line.replug_after_s = None
    with pytest.raises(BoardProblem):
        flash(it)
    it.line.plug_again()
    done = flash(it)
    assert it.flash(len(CONTENT)) == CONTENT
    assert done.kept >= SEGMENT_BYTES - 0x1000
    assert done.kept + done.written == len(CONTENT)


def test_a_second_run_writes_nothing(bench):
    it = bench()
    flash(it)
    before = it.model.data_requests
    done = flash(it)
    assert (done.written, done.kept) == (0, len(CONTENT))
    assert it.model.data_requests == before


def test_flash_that_does_not_keep_a_bit_is_found_out(bench):
    at = 0x1000 + CONTENT.index(0, 100)
    it = bench(faults=Faults(weak_bit_at=at))
    with pytest.raises(BoardProblem, match="MD5"):
        flash(it)


@pytest.mark.parametrize(
    "leaves",
    [{"leaves_after": b"machine.bootloader()"}, {"leaves_at_1200": True}],
    ids=["machine.bootloader", "1200 baud"],
)
def test_a_board_that_runs_is_asked_for_its_bootloader(bench, tmp_path, monkeypatch, leaves):
    """Its port goes, and another one comes under the same name, which the ROM listens at."""

    def seen(url: str, baudrate: int):
        line = open_line(url, baudrate)
        port.wait_until_cut()  # a chip sees at once at what speed it is opened, the cable does not
        return line

    monkeypatch.setattr(bootloader, "open_line", seen)
    it = bench(ESP32_C3, before="bootloader", offset=0)
    content = esp_content("ESP32-C3", 40_001)
    path = tmp_path / "usb-esp32-c3"
    with SimulatedBoard("sim-esp32", directory=tmp_path / "board") as board:
        board.power_on()
        with NativePort(board.serial_url, path, **leaves) as port:
            rom = threading.Thread(target=port.become, args=[it.line.port])
            rom.start()
            it.job = replace(it.job, url=str(path), back_within_s=60.0)
            done = flash(it, content)
            rom.join()
    assert it.flash(len(content), offset=0) == content
    assert (done.chip, done.written, done.attempts) == ("esp32c3", len(content), 1)


def test_a_board_whose_bootloader_does_not_come_is_said_so(bench, tmp_path):
    it = bench(ESP32_C3, before="bootloader", offset=0)
    path = tmp_path / "usb-esp32-c3"
    with SimulatedBoard("sim-esp32", directory=tmp_path / "board") as board:
        board.power_on()
        with NativePort(board.serial_url, path, leaves_after=b"machine.bootloader()") as port:
            gone = threading.Thread(target=port.leave)
            gone.start()
            it.job = replace(it.job, url=str(path), back_within_s=0.3)
            with pytest.raises(BoardProblem, match=r"there is no board at|is gone"):
                flash(it, esp_content("ESP32-C3", 40_001))
            gone.join()
    assert it.model.requests == []


def test_nothing_on_the_line_is_said_so(tmp_path, bench):
    it = bench(url=str(tmp_path / "none"))
    with pytest.raises(BoardProblem, match="none"):
        flash(it)


def test_a_chip_that_runs_its_application_does_not_answer(bench):
    it = bench()
    it.model.download = False
    with pytest.raises(BoardProblem, match="BOOT button"):
        flash(it)


@pytest.mark.parametrize("offset", [0, 0x1000, 0xF000, 0x10000])
@pytest.mark.parametrize("length", [1, 4096, SEGMENT_BYTES, 3 * SEGMENT_BYTES + 1])
def test_segments_cover_an_image_and_end_at_erase_blocks(offset, length):
    pieces = list(segments(offset, length))
    assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == length
    assert all((offset + end) % SEGMENT_BYTES == 0 for _, end in pieces[:-1])


@pytest.mark.parametrize("content", [b"", b"\xe9", b"UF2\n" + bytes(512)])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(Refused, match="not an image"):
        read_esp_image(content, source="file")
