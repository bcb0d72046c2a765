"""Fuses are burned by the real espefuse, into its own virtual chips, and only by the phrase."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from handfast.boards.flash.fuses import burn, open_fuses, plan_burns
from handfast.errors import BoardProblem, EnvironmentProblem, Refused, UsageError

MAC = "24:0a:3c:11:22:33"
CHIPS = ("esp32", "esp32c3", "esp32s3")


@pytest.fixture(scope="module")
def signing_key(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("key") / "signing.pem"
    key = rsa.generate_private_key(65537, 3072)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    file.write_bytes(pem)
    return file


@pytest.fixture
def encryption_key(tmp_path: Path) -> Path:
    file = tmp_path / "encryption.bin"
    file.write_bytes(bytes(range(32)))
    return file


def virtual(chip: str, file: Path):
    controller = importlib.import_module(f"espefuse.efuse.{chip}").EmulateEfuseController(str(file))
    if chip == "esp32":
        controller.get_chip_revision = lambda: 300  # the first with secure boot version 2
    return controller


@pytest.mark.parametrize("chip", CHIPS)
def test_the_phrase_burns_what_was_shown(tmp_path, chip, encryption_key, signing_key):
    plan = plan_burns(chip, MAC, encryption_key=encryption_key, signing_key=signing_key)
    esp = virtual(chip, tmp_path / "fuses.bin")
    with open_fuses(esp) as commands:
        burn(plan, plan.phrase, commands)
    with open_fuses(esp) as commands:
        fuses = {fuse.name: fuse for fuse in commands.efuses}
        assert str(fuses["ABS_DONE_1" if chip == "esp32" else "SECURE_BOOT_EN"].get()) in (
            "1",
            "True",
        )
        switch = fuses["FLASH_CRYPT_CNT" if chip == "esp32" else "SPI_BOOT_CRYPT_CNT"]
        assert switch.get_raw() == 1
        key = fuses["BLOCK1" if chip == "esp32" else "BLOCK_KEY0"]
        assert not key.is_readable()
        assert not key.is_writeable()


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "yes",
        "BURN",
        "burn",
        f"burn 4 fuses of {MAC} for good ",
        f"Burn 4 fuses of {MAC} for good",
    ],
)
def test_nothing_else_burns_anything(tmp_path, typed, encryption_key, signing_key):
    plan = plan_burns("ESP32-C3", MAC, encryption_key=encryption_key, signing_key=signing_key)
    file = tmp_path / "fuses.bin"
    esp = virtual("esp32c3", file)
    before = file.read_bytes()
    with open_fuses(esp) as commands, pytest.raises(Refused, match="nothing was burned"):
        burn(plan, typed, commands)
    assert file.read_bytes() == before
    assert plan.phrase == f"burn 4 fuses of {MAC} for good"


@pytest.mark.parametrize("chip", CHIPS)
def test_the_key_that_was_there_when_the_plan_was_shown_is_burned(tmp_path, chip, encryption_key):
    key = encryption_key.read_bytes()
    plan = plan_burns(chip, MAC, encryption_key=encryption_key, signing_key=None)
    encryption_key.write_bytes(bytes(range(100, 132)))
    esp = virtual(chip, tmp_path / "fuses.bin")
    written: list[bytes] = []
    write = esp.write_reg

    def note(address, value, *rest, **options):
        written.append(value.to_bytes(4, "little"))
        return write(address, value, *rest, **options)

    esp.write_reg = note  # what is burned cannot be read
    with open_fuses(esp) as commands:
        burn(plan, plan.phrase, commands)
    assert key[::-1] in b"".join(written)  # the order that chips have it in
    assert repr(key) not in repr(plan)  # as a traceback might show it


def test_a_plan_says_each_fuse_and_that_it_stays(encryption_key, signing_key):
    plan = plan_burns("esp32", MAC, encryption_key=encryption_key, signing_key=signing_key)
    text = "\n".join(plan.lines())
    for said in (
        "flash_encryption",
        "FLASH_CRYPT_CONFIG",
        "FLASH_CRYPT_CNT",
        "ABS_DONE_1",
        "BLOCK2",
    ):
        assert said in text
    assert "cannot be undone" in text
    assert MAC in text


def test_a_block_in_use_stays(tmp_path, encryption_key):
    plan = plan_burns("esp32c3", MAC, encryption_key=encryption_key, signing_key=None)
    file = tmp_path / "fuses.bin"
    esp = virtual("esp32c3", file)
    with open_fuses(esp) as commands:
        burn(plan, plan.phrase, commands)
    before = file.read_bytes()
    encryption_key.write_bytes(bytes(range(1, 33)))
    with pytest.raises(BoardProblem, match="nothing was burned"), open_fuses(esp) as commands:
        burn(plan, plan.phrase, commands)
    assert file.read_bytes() == before


def test_what_makes_no_sense_is_refused(tmp_path, encryption_key):
    with pytest.raises(UsageError, match="--signing-key"):
        plan_burns("esp32", MAC, encryption_key=None, signing_key=None)
    with pytest.raises(Refused, match="by hand"):
        plan_burns("esp32p4", MAC, encryption_key=encryption_key, signing_key=None)
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        plan_burns("esp32", MAC, encryption_key=None, signing_key=tmp_path / "none")
    for no_key in (bytes(range(31)), bytes(32)):
        encryption_key.write_bytes(no_key)
        with pytest.raises(UsageError, match="32 random octets"):
            plan_burns("esp32", MAC, encryption_key=encryption_key, signing_key=None)
