"""eFuses for flash encryption and secure boot: planned, shown, and burned by a typed phrase only.

A burned eFuse stays burned. MicroPython's downloads are neither signed nor built to encrypt the
flash: on a chip with these fuses they do not start again. So nothing here runs by default, and
nothing in handfast flashes such a chip.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from esptool.util import FatalError

from handfast.boards.flash.esp_image import chip_key
from handfast.errors import BoardProblem, EnvironmentProblem, Refused, UsageError

_KEY_BYTES: Final = 32
# Chips with the key blocks and names of the ESP32-S2 and later (espefuse, "Burn Key").
_LATER_CHIPS: Final = ("esp32c3", "esp32c6", "esp32h2", "esp32s3")


@dataclass(frozen=True, slots=True)
class Burn:
    """One step: a ``key`` or the ``digest`` of a public key into a block, or ``fuse`` = value.

    ``content`` is the key's file as it was read when the plan was made.
    """

    kind: Literal["key", "digest", "fuse"]
    name: str
    value: str
    effect: str
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class BurnPlan:
    """What would be burned into one chip, in order."""

    chip: str
    mac: str
    burns: tuple[Burn, ...]

    @property
    def phrase(self) -> str:
        """What has to be typed: it names the chip, so that it fits no other board."""
        return f"burn {len(self.burns)} fuses of {self.mac} for good"

    def lines(self) -> list[str]:
        """Return what to show before anything is asked."""
        steps = [
            f"  {number}. {burn.name} = {burn.value}: {burn.effect}"
            for number, burn in enumerate(self.burns, 1)
        ]
        return [
            f"This would be burned into the {self.chip} {self.mac}. It cannot be undone:",
            *steps,
            "Afterwards the chip starts only images made for it, which MicroPython's downloads are",
            "not. Without the keys it can never be flashed again: keep copies of them.",
        ]


def plan_burns(
    chip: str, mac: str, *, encryption_key: Path | None, signing_key: Path | None
) -> BurnPlan:
    """Return the fuses for flash encryption, for secure boot version 2, or for both.

    Args:
        chip: the name that the chip gave.
        mac: its MAC address.
        encryption_key: a file of 32 octets.
        signing_key: the RSA-3072 key in PEM (private or public) whose digest is burned.

    Raises:
        UsageError: neither is wanted, or the file holds no such key.
        Refused: handfast does not know this chip's fuses.
        EnvironmentProblem: a key file cannot be read.
    """
    if encryption_key is None and signing_key is None:
        raise UsageError("give --encryption-key, --signing-key or both")
    name = chip_key(chip)
    if name != "esp32" and name not in _LATER_CHIPS:
        raise Refused(f"handfast does not burn the fuses of an {chip}: use espefuse by hand")
    burns: list[Burn] = []
    if encryption_key is not None:
        key = _read(encryption_key)
        if len(key) != _KEY_BYTES or len(set(key)) == 1:
            raise UsageError(f"{encryption_key} must hold {_KEY_BYTES} random octets")
        burns += _encryption(name, encryption_key, key)
    if signing_key is not None:
        burns += _secure_boot(name, signing_key, _read(signing_key))
    return BurnPlan(name, mac, tuple(burns))


def _encryption(chip: str, file: Path, key: bytes) -> list[Burn]:
    hidden = "the key, which nothing can read or change any more"
    if chip == "esp32":
        return [
            Burn("key", "flash_encryption", str(file), hidden, key),
            Burn("fuse", "FLASH_CRYPT_CONFIG", "15", "the key is tweaked by all address bits"),
            Burn("fuse", "FLASH_CRYPT_CNT", "1", "the flash is read through the cipher"),
        ]
    return [
        Burn("key", "BLOCK_KEY0", str(file), hidden, key),
        Burn("fuse", "SPI_BOOT_CRYPT_CNT", "1", "the flash is read through the cipher"),
    ]


def _secure_boot(chip: str, file: Path, key: bytes) -> list[Burn]:
    trusted = "the digest of the one key whose signatures count"
    block, switch = (
        ("BLOCK2", "ABS_DONE_1") if chip == "esp32" else ("BLOCK_KEY1", "SECURE_BOOT_EN")
    )
    return [
        Burn("digest", block, str(file), trusted, key),
        Burn("fuse", switch, "1", "unsigned images do not start"),
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"{file} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def open_fuses(esp: Any) -> Iterator[Any]:
    """Yield espefuse's commands for a connected chip (or its virtual one, for rehearsals).

    ``esp`` is esptool's loader or an ``EmulateEfuseController``. espefuse's own question is
    switched off: ours names the chip.
    """
    import espefuse

    with _explained("nothing was burned"):
        commands = espefuse.init_commands(esp=esp, do_not_confirm=True)
    with commands:
        yield commands


def burn(plan: BurnPlan, typed: str, commands: Any) -> None:
    """Burn the plan in one go, if ``typed`` is its phrase, to the letter.

    Args:
        plan: what was shown.
        typed: what the user typed after that.
        commands: from :func:`open_fuses`.

    Raises:
        Refused: it is not the phrase; nothing was burned.
        BoardProblem: a block is in use, the chip's revision does not know secure boot version 2,
            or the fuses do not read back as burned.
    """
    if typed != plan.phrase:
        raise Refused("that is not the phrase: nothing was burned")
    with _explained("nothing was burned"):
        commands.use_batch_mode()
        for step in plan.burns:
            _queue(plan.chip, step, commands)
    with _explained("some of the plan may be burned: compare with `espefuse summary`"):
        if not commands.burn_all():
            raise BoardProblem(f"the fuses of {plan.mac} do not read back as they were burned")


def _queue(chip: str, step: Burn, commands: Any) -> None:
    if step.kind == "fuse":
        commands.burn_efuse({step.name: step.value})
        return
    content = io.BytesIO(step.content)
    if chip == "esp32":
        if step.kind == "key":
            commands.burn_key([step.name], [content])
        else:
            commands.burn_key_digest(content)
    elif step.kind == "key":
        commands.burn_key([step.name], [content], ["XTS_AES_128_KEY"])
    else:
        commands.burn_key_digest([step.name], [content], ["SECURE_BOOT_DIGEST0"])


@contextlib.contextmanager
def _explained(consequence: str) -> Iterator[None]:
    try:
        yield
    except FatalError as error:
        said = str(error).strip().splitlines()[0]
        raise BoardProblem(f"espefuse refuses ({said}): {consequence}") from error
