"""A model of the secure element on an Arduino MKR, an ATECC508A, as ArduinoECCX08 sees it.

What it keeps outlives a reset of the board. Sources: Microchip's summary data sheet of the
ATECC508A (slots 0 to 7 have 36 bytes, slot 8 has 416, the others 72; GenKey needs a locked
configuration zone; writes are of whole words), and ArduinoECCX08's public header and its default
TLS configuration (slots 0 to 4 hold P-256 keys that GenKey may replace, slots 8 to 14 are read
and written in the clear).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

KEY_SLOTS = range(5)
CLEAR_SLOTS = range(8, 15)
_WORD = 4


class PowerCut(Exception):
    """The board lost its power in the middle of a write; half of it is done."""


class EccChipModel:
    """The chip.

    Args:
        serial: nine bytes; a real chip's begin with 0x01 0x23 and end in 0xEE.
        locked: both zones; an unlocked chip makes no keys.
    """

    def __init__(self, serial: str = "0123AB01CD02EF03EE", *, locked: bool = True) -> None:
        self.serial = serial
        self.locked = locked
        self.keys: dict[int, ec.EllipticCurvePrivateKey] = {}
        self.keys_made = 0
        self.writes = 0
        self.cut_at_write: int | None = None
        self.broken = False
        self._slots = {slot: bytearray(_size(slot)) for slot in CLEAR_SLOTS}

    def generate(self, slot: int) -> bytes | None:
        """Make a key, in place of the one that was there; returns X and Y."""
        if self.broken or not self.locked or slot not in KEY_SLOTS:
            return None
        self.keys[slot] = ec.generate_private_key(ec.SECP256R1())
        self.keys_made += 1
        return self.public(slot)

    def public(self, slot: int) -> bytes | None:
        if self.broken or slot not in self.keys:
            return None
        point = self.keys[slot].public_key()
        return point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]

    def csr(self, slot: int, common_name: str) -> str | None:
        """Return what the library's ECCX08CSR makes of a key: PEM, signed by it."""
        if self.broken or slot not in self.keys:
            return None
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        return builder.sign(self.keys[slot], hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def read(self, slot: int, length: int) -> bytes | None:
        if self.broken or slot not in CLEAR_SLOTS or length % _WORD or length > _size(slot):
            return None
        return bytes(self._slots[slot][:length])

    def write(self, slot: int, data: bytes) -> bool:
        if self.broken or slot not in CLEAR_SLOTS or len(data) % _WORD or len(data) > _size(slot):
            return False
        self.writes += 1
        if self.writes == self.cut_at_write:
            half = len(data) // 2
            self._slots[slot][:half] = data[:half]
            raise PowerCut
        self._slots[slot][: len(data)] = data
        return True


def _size(slot: int) -> int:
    return 416 if slot == 8 else 72
