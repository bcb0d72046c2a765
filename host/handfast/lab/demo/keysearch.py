"""Do private keys stay on their board? Read them from its flash image, look for them elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

# RFC 5915 ECPrivateKey of P-256: version 1, then an OCTET STRING with the 32 bytes of the scalar.
_EC_PRIVATE_KEY = re.compile(rb"\x30[\x31-\x7f]\x02\x01\x01\x04\x20(.{32})", re.DOTALL)
_CURVE = ec.SECP256R1()
_RECORD_MAGIC = b"HFS1"


@dataclass(frozen=True, slots=True)
class FlashKey:
    """A private key found in a flash image: its 32-byte scalar and its public key's SPKI (DER)."""

    scalar: bytes
    spki: bytes

    def __repr__(self) -> str:
        return "FlashKey(...)"


def keys_in_flash(image: bytes) -> list[FlashKey]:
    """Return every P-256 private key in a raw flash image, superseded ones included.

    The raw image is searched, not the filesystem: littlefs writes each copy of a file to a fresh
    block, so keys that no file holds any more are found as well.
    """
    return [FlashKey(scalar, spki) for scalar in _scalars(image) if (spki := _spki(scalar))]


def _scalars(image: bytes) -> Iterable[bytes]:
    return dict.fromkeys(match.group(1) for match in _EC_PRIVATE_KEY.finditer(image))


class KeyRing:
    """Every private key seen in flash images so far, those erased since included."""

    def __init__(self) -> None:
        self._seen: dict[bytes, bool] = {}

    def look(self, images: Iterable[Path]) -> None:
        """Take up what stands in the images now."""
        for image in images:
            for scalar in _scalars(image.read_bytes()):
                if scalar not in self._seen:
                    self._seen[scalar] = _spki(scalar) is not None

    def secrets(self) -> list[bytes]:
        """Return the 32-byte scalars."""
        return [scalar for scalar, is_key in self._seen.items() if is_key]


def _spki(scalar: bytes) -> bytes | None:
    try:
        key = ec.derive_private_key(int.from_bytes(scalar, "big"), _CURVE)
    except ValueError:  # zero, or not below the order: no key
        return None
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def disguises(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the forms in which a secret may stand in a file: (name of the form, bytes).

    Raw, hexadecimal in both cases, and base64 (standard and URL alphabet) at the three
    alignments that it can have inside a longer encoded text.
    """
    yield "raw", secret
    yield "hex", secret.hex().encode()
    yield "HEX", secret.hex().upper().encode()
    for shift in range(3):
        padded = bytes(shift) + secret
        # Characters that also carry bits of the neighbours, before and after, are left out.
        first = (shift * 8 + 5) // 6
        last = len(padded) * 8 // 6
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            yield f"{name}+{shift}", encode(padded)[first:last]


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret found where it should not be."""

    path: Path
    form: str


def find_leaks(secrets: Iterable[bytes], paths: Iterable[Path]) -> list[Leak]:
    """Search files for secrets in every form of :func:`disguises`.

    Line breaks and JSON's escaped ones are taken out as well, so that wrapped base64 is found.
    """
    needles = [disguise for secret in secrets for disguise in disguises(secret)]
    leaks = []
    for path in paths:
        content = path.read_bytes()
        texts = (content, re.sub(rb"\s|\\n|\\r", b"", content))
        leaks += [
            Leak(path, form) for form, needle in needles if any(needle in text for text in texts)
        ]
    return leaks


def plant(secret: bytes, folder: Path) -> dict[str, Path]:
    """Write ``secret`` into a file of its own for every form; return form → file.

    A search that does not find all of them again proves nothing.
    """
    planted = {}
    for number, (form, disguise) in enumerate(disguises(secret)):
        path = folder / f"planted-{number}.txt"
        path.write_bytes(b"log line before " + disguise + b" and after\n")
        planted[form] = path
    return planted


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and its certificate, as someone who holds both."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def identities_in_flash(image: bytes) -> list[Identity]:
    """Return every whole identity record in a raw flash image, oldest copies included.

    The record is firmware/mtls/store.py's: ``HFS1``, then key and certificate, each behind its
    length in two bytes, big-endian.
    """
    found: dict[bytes, Identity] = {}
    for match in re.finditer(_RECORD_MAGIC, image):
        key, after = _field(image, match.end())
        certificate, _ = _field(image, after)
        if key and certificate and (stolen := _identity(key, certificate)):
            found[certificate] = stolen
    return list(found.values())


def _field(image: bytes, start: int) -> tuple[bytes, int]:
    end = start + 2 + int.from_bytes(image[start : start + 2], "big")
    return image[start + 2 : end], end


def _identity(key_der: bytes, certificate_der: bytes) -> Identity | None:
    try:
        key = serialization.load_der_private_key(key_der, None)
        certificate = x509.load_der_x509_certificate(certificate_der)
    except ValueError:  # the magic stood there by chance, or the copy is torn
        return None
    return Identity(key, certificate) if isinstance(key, ec.EllipticCurvePrivateKey) else None
