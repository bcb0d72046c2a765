"""``handfast board flash`` and ``handfast board fuses`` as a user types them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from bootsel_model import RP2040, BootselModel, uf2_file
from efuse_model import KEY0, EfuseModel
from esp_rom_model import ESP32_C3
from flash_support import esp_content

CONTENT = esp_content("ESP32-C3")
# Stands in for picotool, which no package registry here has: it takes the same command line.
_PICOTOOL = """#!/bin/sh
[ "$1 $2 $3 $5 $6" = "load -v -x -t uf2" ] || { echo "ERROR: unexpected: $*" >&2; exit 2; }
[ -z "$REFUSE" ] || { echo "ERROR: No accessible RP-series devices" >&2; exit 7; }
cp "$4" "$LOADED"
"""


def handfast(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handfast", "board", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "firmware.bin"
    file.write_bytes(CONTENT)
    return file


def esp(bench, image, *options, board="esp32-c3"):
    it = bench(ESP32_C3, offset=0)
    line = ("--port", it.line.port, "--before", "no-reset", "--after", "no-reset", "--no-check")
    return it, handfast("flash", "--board", board, "--firmware", image, *line, *options)


def test_an_esp32_is_flashed(bench, image):
    it, done = esp(bench, image, "--json")
    assert done.returncode == 0, done.stderr
    assert it.flash(len(CONTENT), offset=0) == CONTENT
    said = json.loads(done.stdout)
    assert (said["chip"], said["written"]) == ("esp32c3", len(CONTENT))
    assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert said["running"] is None


def test_it_is_told_to_people_too(bench, image):
    _, done = esp(bench, image, "--baud", "115200")
    assert done.returncode == 0, done.stderr
    assert "ESP32-C3" in done.stdout
    assert f"{len(CONTENT)} written" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_wrong_image_is_exit_code_5(bench, image):
    it, done = esp(bench, image, board="esp32-s3")
    assert (done.returncode, it.model.requests) == (5, [])
    assert "is built for esp32c3, the board has esp32s3" in done.stderr


def test_another_hash_is_exit_code_5(bench, image):
    it, done = esp(bench, image, "--sha256", "0" * 64)
    assert (done.returncode, it.model.requests) == (5, [])


@pytest.mark.parametrize(
    "options",
    [
        (), ("--board", "none"), ("--board", "sim-esp32"),
        ("--board", "pico-w@E6614C311B7E6F35", "--port", "/dev/ttyACM0"),
        ("--board", "pico-w", "--erase", "--firmware", __file__),
        ("--board", "esp32", "--port", "none", "--picotool", "--firmware", __file__),
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_exit_code_2(options):
    assert handfast("flash", *options).returncode == 2


def test_an_esp32_needs_its_port(image):
    assert handfast("flash", "--board", "esp32-c3", "--firmware", image).returncode == 2


def test_nothing_on_the_port_is_exit_code_6(image, tmp_path):
    line = ("--port", tmp_path / "none")
    assert handfast("flash", "--board", "esp32-c3", "--firmware", image, *line).returncode == 6


@pytest.fixture
def uf2(tmp_path: Path) -> Path:
    file = tmp_path / "firmware.uf2"
    file.write_bytes(uf2_file(Random(3).randbytes(20_000), 0xE48BFF56))  # noqa: S311
    return file


def test_a_pico_is_flashed_by_its_drive(uf2, tmp_path):
    model = BootselModel(RP2040, tmp_path)
    try:
        done = handfast("flash", "--board", "pico-w", "--firmware", uf2, "--drive", model.folder)
        assert done.returncode == 0, done.stderr
        assert model.restarted.wait(60)
        assert "RP2040" in done.stdout
    finally:
        model.close()


@pytest.mark.parametrize("refuse", ["", "1"])
def test_a_pico_is_flashed_by_picotool(uf2, tmp_path, refuse):
    tool = tmp_path / "bin" / "picotool"
    tool.parent.mkdir()
    tool.write_text(_PICOTOOL)
    tool.chmod(0o755)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    loaded = tmp_path / "loaded.uf2"
    done = handfast(
        "flash", "--board", "pico-w", "--firmware", uf2, "--picotool",
        PATH=path, LOADED=str(loaded), REFUSE=refuse,
    )  # fmt: skip
    if refuse:
        assert done.returncode == 6
        assert "No accessible" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert loaded.read_bytes() == uf2.read_bytes()


def fuses(bench, tmp_path, *options):
    it = bench(ESP32_C3, offset=0)
    key = tmp_path / "key.bin"
    key.write_bytes(bytes(range(32)))
    line = ("--port", it.line.port, "--before", "no-reset", "--encryption-key", key)
    return it, handfast("fuses", *line, *options)


@pytest.mark.parametrize("options", [(), ("--burn",)], ids=["shown", "no-terminal"])
def test_fuses_are_shown_and_not_burned(bench, tmp_path, options):
    it, done = fuses(bench, tmp_path, *options)
    assert done.returncode == 5, done.stderr
    assert "BLOCK_KEY0" in done.stdout
    assert "cannot be undone" in done.stdout
    assert "nothing was burned" in done.stderr
    assert not [address for address in it.model.registers if 0x60008800 <= address < 0x60008A00]


def burn_in_a_terminal(
    bench, tmp_path: Path, typed: Callable[[str], str]
) -> tuple[EfuseModel, bytes, subprocess.CompletedProcess[str]]:
    """Ask to burn a key and type ``typed(phrase)``; by then another key is in the file."""
    it = bench(ESP32_C3, offset=0)
    it.model.registers = fuses = EfuseModel(it.model.registers)
    file, key = tmp_path / "key.bin", bytes(range(32))
    file.write_bytes(key)
    words = ("fuses", "--port", it.line.port, "--before", "no-reset", "--encryption-key", file)
    hand, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "handfast", "board", *map(str, words), "--burn"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        said = b""
        while not said.endswith(b"anything else not to: "):
            piece = os.read(process.stderr.fileno(), 4096)
            assert piece, said.decode()
            said += piece
        assert not fuses.burned
        file.write_bytes(bytes(range(100, 132)))
        phrase = re.search("Type '(.*)' to burn", said.decode())
        assert phrase is not None
        os.write(hand, f"{typed(phrase[1])}\n".encode())
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        os.close(hand)
        os.close(terminal)
    return (
        fuses,
        key,
        subprocess.CompletedProcess(words, process.returncode, out.decode(), err.decode()),
    )


@pytest.mark.parametrize(
    "typed",
    [
        lambda _: "yes",
        lambda phrase: phrase + " ",
        lambda phrase: phrase.upper(),
        lambda phrase: phrase.replace("burn 2", "burn 3"),
        lambda phrase: phrase.replace("00:00:00:00:00:00", "00:00:00:00:00:01"),
    ],
    ids=["yes", "a space more", "capitals", "another number", "another chip"],
)
def test_another_phrase_burns_nothing(bench, tmp_path, typed):
    fuses, _, done = burn_in_a_terminal(bench, tmp_path, typed)
    assert done.returncode == 5, done.stderr
    assert "that is not the phrase: nothing was burned" in done.stderr
    assert "Burned." not in done.stdout
    assert not fuses.burned


def test_the_phrase_to_the_letter_burns_the_key_that_was_shown(bench, tmp_path):
    fuses, key, done = burn_in_a_terminal(bench, tmp_path, lambda phrase: phrase)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Burned.\n")
    assert sorted(fuses.burned) == [0, KEY0]
    words = b"".join(word.to_bytes(4, "little") for word in fuses.burned[KEY0])
    assert words == key[::-1]  # the order that the chip has it in
    assert fuses.burned[0][2] >> 18 & 0x7 == 1  # SPI_BOOT_CRYPT_CNT
