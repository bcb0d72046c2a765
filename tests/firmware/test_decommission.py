"""Decommissioning leaves nothing usable wherever the power fails, and nothing readable on flash."""

from __future__ import annotations

import ast
import hashlib
import os
import random
import shutil
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
_DEVICE_ID, _SSID = b"board-in-the-cellar", b"network-of-the-house"
_SEED = hashlib.sha256(b"seed").digest()
_CERTIFICATE_BYTES, _ANCHOR_BYTES = 440, 900
_TOMBSTONE = "mtls.erase"

_MAIN = """
import os, time, _sim
from mtls.store import Store
year = time.gmtime()[0]  # whatever the board's epoch
if year < 2020:
    store = Store()
    n = _sim.flash_ops()
    store.decommission() if year < 2005 else store.scrub()
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
import hashlib, json, os
from mtls.store import Store
store = Store()
def certificate(name, size):
    made = [hashlib.sha256(b"%s %d" % (name, n)).digest() for n in range(size // 32 + 1)]
    return b"".join(made)[:size]
os.mkdir("/mtls")
os.mkdir("/mtls/anchor")
def put(name, data):
    store._write(name, data)
put("anchor/tls-0.der", certificate(b"anchor", ANCHOR_BYTES))
put("config.json", json.dumps({"schema": 1, "device_id": DEVICE_ID, "api_url": "https://h",
    "enrol_url": "https://h", "trust_domain": "t", "networks": [SSID]}).encode())
put("secret.json", json.dumps({"token": TOKEN, "wifi": {SSID: PASSWORD}}).encode())
put("seed", SEED)
keys = [bytes.fromhex(one) for one in KEYS]
from mtls.provision import install
install(store, keys[0], certificate(b"0", CERTIFICATE_BYTES))
for number, key in enumerate(keys[1:], 1):
    name = "ba"[number % 2]
    store.write_identity(name, key)
    store.write_identity(name, key, certificate(b"%d" % number, CERTIFICATE_BYTES))
    store.set_current(name)
"""


def new_key() -> bytes:
    """Return a fresh private key as the board keeps it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def certificate(name: str, size: int) -> list[bytes]:
    """Return what stands for a certificate, in pieces of 32 octets that are nowhere else."""
    return [hashlib.sha256(f"{name} {n}".encode()).digest() for n in range(size // 32)]


def run(link: SerialLink, code: str, **values: object) -> str:
    return link.exec("".join(f"{name} = {value!r}\n" for name, value in values.items()) + code)


def prepare(link: SerialLink, keys: list[bytes], then: str = "") -> None:
    """Install all that a board is given, and rotate through the keys: the first is the IDevID's."""
    run(
        link,
        _PREPARE + then,
        KEYS=[key.hex() for key in keys],
        DEVICE_ID=_DEVICE_ID.decode(),
        SSID=_SSID.decode(),
        TOKEN=_TOKEN.decode(),
        PASSWORD=_PASSWORD.decode(),
        SEED=_SEED,
        ANCHOR_BYTES=_ANCHOR_BYTES,
        CERTIFICATE_BYTES=_CERTIFICATE_BYTES,
    )


@pytest.fixture
def board(board: SimulatedBoard) -> SimulatedBoard:
    board.flash_image.parent.mkdir(exist_ok=True)
    board.flash_image.write_bytes(b"\xff" * 4096 * _SECTORS)
    return board


@pytest.fixture
def prepared(board: SimulatedBoard, tmp_path: Path) -> Path:
    """An image of a board that has rotated four times, its application not yet run."""
    keys = [new_key() for _ in range(5)]
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.push(library(*_MODULES))
        link.soft_reset()
        prepare(link, keys)
        link.push({"/main.py": _MAIN.encode()})
    board.power_off()
    image = Path(shutil.copy(board.flash_image, tmp_path / "prepared.img"))
    assert len(keys_in_flash(image.read_bytes())) >= 3
    assert {*_SEARCHED, "certificate 0", "certificate 3", "certificate 4"} <= left_on(image)
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


_MOST_KEYS = 9
_SEARCHED = {
    "token": [_TOKEN],
    "password": [_PASSWORD],
    "device id": [_DEVICE_ID],
    "SSID": [_SSID],
    "seed": [_SEED],
    "anchor": certificate("anchor", _ANCHOR_BYTES),
}
_CERTIFICATES = {
    f"certificate {n}": certificate(str(n), _CERTIFICATE_BYTES) for n in range(_MOST_KEYS)
}


def left_on(image: Path) -> set[str]:
    """Return what of all that a board was given can be read on its raw flash, a piece is enough."""
    content = image.read_bytes()
    searched = {**_SEARCHED, **_CERTIFICATES}
    found = {name for name, pieces in searched.items() if any(one in content for one in pieces)}
    return found | {f"key {key.scalar.hex()}" for key in keys_in_flash(content)}


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
            assert left_on(board.flash_image) == set(), f"cut at operation {cut}"
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
        assert left_on(board.flash_image) == set(), f"cut at {first}, then at {second}"


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
    keys = [new_key() for _ in range(_MOST_KEYS)]
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
            prepare(link, keys, "store.forget_token()")
            # littlefs copies on write: superseded keys and the used token are there to be read.
            assert set(readable()) > {0, 7, 8}
            assert _TOKEN in board.flash_image.read_bytes()
            run(link, "store.scrub()")
            assert readable() == [0, 7, 8], "the IDevID's and the two slots' own"
            in_use = {*_SEARCHED, *(f"certificate {n}" for n in (0, 7, 8))} - {"token"}
            assert {one for one in left_on(board.flash_image) if one[:4] != "key "} == in_use
            run(link, "store.decommission()")
            assert left_on(board.flash_image) == set()


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
    assert left_on(board.flash_image) == set()
