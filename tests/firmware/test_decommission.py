"""Decommissioning leaves nothing usable wherever the power fails, and nothing readable on flash."""

from __future__ import annotations

import ast
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cut_power import boot, library

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.lab.demo.keysearch import keys_in_flash

_SECTORS = 40  # a small chip: each of its operations is cut at
_MODULES = (
    *("__init__", "config", "custody", "errors", "erase", "identity"),
    *("provision", "secrets", "store", "url"),
)
# The clock says what a boot is for.
_DECOMMISSION_AT, _SCRUB_AT, _LOOK_AT = 1_000_000_000, 1_200_000_000, 2_000_000_000
_SECOND_CUTS = int(os.environ.get("HANDFAST_SECOND_CUTS", "40"))
_SCRUB_CUTS = 25
_TOKEN, _PASSWORD = b"one-time-token", b"wifi-password"
_TOMBSTONE = "mtls.erase"

_MAIN = """
import os, time, _sim
from mtls.store import Store
if time.time() < 1500000000:
    store = Store()
    n = _sim.flash_ops()
    store.decommission() if time.time() < 1100000000 else store.scrub()
    print("operations", _sim.flash_ops() - n)
else:
    stood = "mtls.erase" in os.listdir("/")
    store = Store()
    try:
        config = store.config()
    except Exception as error:
        config = type(error).__name__
    identities = [store.identity(name) is not None for name in ("a", "b", "idevid")]
    print(repr((stood, config != "ConfigError", store.token(), identities, os.listdir("/"))))
print("DONE")
"""

_PREPARE = """
import json, os
from mtls.store import Store
store = Store()
os.mkdir("/mtls")
os.mkdir("/mtls/anchor")
def put(name, data):
    store._write(name, data)
put("anchor/tls-0.der", bytes(900))
put("config.json", json.dumps({"schema": 1, "device_id": "d", "api_url": "https://h",
    "enrol_url": "https://h", "trust_domain": "t"}).encode())
put("secret.json", b'{"token": "one-time-token", "wifi": {"home": "wifi-password"}}')
store.put_seed(bytes(32))
keys = [bytes.fromhex(one) for one in KEYS]
from mtls.provision import install
install(store, keys[0], bytes(440))
for number, key in enumerate(keys[1:]):
    name = "ab"[number % 2]
    store.write_identity(name, key)
    store.write_identity(name, key, bytes(440))
    store.set_current(name)
"""


def new_key() -> bytes:
    """Return a fresh private key as the board keeps it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def run(link: SerialLink, code: str, **values: object) -> str:
    return link.exec("".join(f"{name} = {value!r}\n" for name, value in values.items()) + code)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(directory=tmp_path / "board") as board:
        board.flash_image.parent.mkdir(exist_ok=True)
        board.flash_image.write_bytes(b"\xff" * 4096 * _SECTORS)
        yield board


@pytest.fixture
def prepared(board: SimulatedBoard, tmp_path: Path) -> Path:
    """An image of a board that has rotated four times, its application not yet run."""
    keys = [new_key() for _ in range(5)]
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.push(library(*_MODULES))
        link.soft_reset()
        run(link, _PREPARE, KEYS=[key.hex() for key in keys])
        link.push({"/main.py": _MAIN.encode()})
    board.power_off()
    image = Path(shutil.copy(board.flash_image, tmp_path / "prepared.img"))
    assert len(keys_in_flash(image.read_bytes())) >= 3
    assert _TOKEN in image.read_bytes()
    return image


@dataclass(frozen=True, slots=True)
class Found:
    """What a board holds at a boot after its decommissioning was begun."""

    tombstone: bool
    config: bool
    token: str | None
    identities: list[bool]
    root: list[str]

    @property
    def whole(self) -> bool:
        return self.config and self.token == _TOKEN.decode() and all(self.identities)

    @property
    def nothing(self) -> bool:
        usable = self.config or self.token or any(self.identities)
        return not usable and not {"mtls", _TOMBSTONE} & set(self.root)


def look(board: SimulatedBoard) -> Found:
    told = boot(board, _LOOK_AT) or ""
    return Found(*ast.literal_eval(next(line for line in told.splitlines() if line[:1] == "(")))


def secrets_left(image: Path) -> list[object]:
    content = image.read_bytes()
    return [*keys_in_flash(content), *[one for one in (_TOKEN, _PASSWORD) if one in content]]


def operations(board: SimulatedBoard, prepared: Path, at: int) -> int:
    shutil.copy(prepared, board.flash_image)
    told = boot(board, at) or ""
    return int(told.split("operations ")[1].split()[0])


def test_decommission_cut_anywhere_leaves_nothing_once_it_has_begun(
    board: SimulatedBoard, prepared: Path
) -> None:
    begun = []
    for cut in range(operations(board, prepared, _DECOMMISSION_AT)):
        shutil.copy(prepared, board.flash_image)
        assert boot(board, _DECOMMISSION_AT, cut_after=cut) is None
        found = look(board)
        assert found.nothing or (found.whole and not found.tombstone), f"cut at operation {cut}"
        if found.nothing:
            assert secrets_left(board.flash_image) == [], f"cut at operation {cut}"
        begun.append(found.nothing)
    assert begun == sorted(begun), "once begun it stays so"
    # Its first write, the tombstone, is all that can fail to have happened.
    assert begun.index(True) <= 3
    assert len(begun) > 50


def test_decommission_cut_twice_leaves_nothing(board: SimulatedBoard, prepared: Path) -> None:
    total = operations(board, prepared, _DECOMMISSION_AT)
    chance = random.Random(4)  # noqa: S311  (the same cuts in each run)
    for _ in range(_SECOND_CUTS):
        first, second = chance.randrange(3, total), chance.randrange(total)
        shutil.copy(prepared, board.flash_image)
        assert boot(board, _DECOMMISSION_AT, cut_after=first) is None
        boot(board, _LOOK_AT, cut_after=second)
        assert look(board).nothing, f"cut at {first}, then at {second}"
        assert secrets_left(board.flash_image) == [], f"cut at {first}, then at {second}"


def test_scrubbing_cut_anywhere_keeps_the_identities(board: SimulatedBoard, prepared: Path) -> None:
    chance = random.Random(4)  # noqa: S311  (the same cuts in each run)
    for cut in chance.sample(range(operations(board, prepared, _SCRUB_AT)), _SCRUB_CUTS):
        shutil.copy(prepared, board.flash_image)
        assert boot(board, _SCRUB_AT, cut_after=cut) is None
        assert look(board).whole, f"cut at operation {cut}"


@pytest.mark.parametrize("version", ["1.26.1", "1.25.0"])
@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_what_the_raw_flash_holds_after_rotation_scrubbing_and_decommission(
    profile: str, version: str, tmp_path: Path
) -> None:
    keys = [new_key() for _ in range(9)]
    scalars = {key: key[7:39] for key in keys}
    with SimulatedBoard(profile, directory=tmp_path / "board", micropython=version) as board:

        def readable() -> list[int]:
            image = board.flash_image.read_bytes()
            assert {key.scalar for key in keys_in_flash(image)} <= set(scalars.values())
            return [n for n, key in enumerate(keys) if scalars[key] in image]

        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.push(library(*_MODULES))
            link.soft_reset()
            run(link, _PREPARE + "store.forget_token()", KEYS=[key.hex() for key in keys])
            # littlefs copies on write: superseded keys and the used token are there to be read.
            assert set(readable()) > {0, 7, 8}
            assert _TOKEN in board.flash_image.read_bytes()
            run(link, "store.scrub()")
            assert readable() == [0, 7, 8], "the IDevID's and the two slots' own"
            assert secrets_left(board.flash_image)[3:] == [_PASSWORD]
            run(link, "store.decommission()")
            assert secrets_left(board.flash_image) == []


@pytest.mark.usefixtures("prepared")
def test_keys_that_cannot_be_erased_are_told(board: SimulatedBoard) -> None:
    board.power_on(rtc=_LOOK_AT)
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset()
        told = link.exec(
            "import os\nfrom mtls.store import Store\nstore = Store()\n"
            "with open('/mtls/idevid', 'rb') as old, open('/copy', 'wb') as new:\n"
            " new.write(old.read())\n"
            "try: store.decommission()\n"
            "except Exception as error: print(type(error).__name__, error)\n"
            "os.remove('/copy')\nstore.decommission()\nprint(os.listdir('/'))"
        )
    assert told.startswith("StoreDamaged 1 keys are still readable: erase the whole flash\n")
    assert "mtls" not in told.splitlines()[1]
    assert secrets_left(board.flash_image) == []
