"""The search that the demo's promise about private keys rests on must itself be able to find."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from handfast.lab.demo.keysearch import KeyRing, disguises, find_leaks, keys_in_flash, plant

SECRET = bytes(range(100, 132))


def sec1(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=40), st.binary(max_size=40))
def test_base64_of_a_longer_text_shows_the_secret_inside_it(
    secret: bytes, before: bytes, after: bytes
) -> None:
    encoded = base64.b64encode(before + secret + after)
    assert any(disguise in encoded for _, disguise in disguises(secret))


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=40), st.binary(max_size=40))
def test_url_safe_base64_of_a_longer_text_shows_the_secret_inside_it(
    secret: bytes, before: bytes, after: bytes
) -> None:
    encoded = base64.urlsafe_b64encode(before + secret + after)
    assert any(disguise in encoded for _, disguise in disguises(secret))


def test_every_planted_form_is_found_where_it_was_planted(tmp_path: Path) -> None:
    planted = plant(SECRET, tmp_path)
    leaks = find_leaks([SECRET], planted.values())
    found = {(leak.form, leak.path) for leak in leaks}
    assert set(planted.items()) <= found


def test_wrapped_base64_is_found(tmp_path: Path) -> None:
    path = tmp_path / "wrapped.pem"
    path.write_bytes(base64.encodebytes(b"x" * 50 + SECRET + b"y" * 50))
    assert find_leaks([SECRET], [path])


def test_files_without_the_secret_are_clean(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"nothing here\n" + bytes(range(99, 131)))
    assert find_leaks([SECRET], [path]) == []


@pytest.mark.parametrize("offset", [0, 1, 255, 4095])
def test_a_key_anywhere_in_a_flash_image_is_found_with_its_public_key(offset: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    image = b"\xff" * offset + sec1(key) + b"\xff" * 100
    found = keys_in_flash(image)
    assert [k.spki for k in found] == [spki(key)]
    assert found[0].scalar == key.private_numbers().private_value.to_bytes(32, "big")


def test_copies_of_one_key_count_once() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert len(keys_in_flash(sec1(key) + b"\xff" * 300 + sec1(key))) == 1


def test_a_key_never_shows_in_its_repr() -> None:
    key = keys_in_flash(sec1(ec.generate_private_key(ec.SECP256R1())))[0]
    assert key.scalar.hex() not in repr(key)
    assert repr(key.scalar) not in repr(key)


def test_a_key_that_was_erased_is_still_looked_for(tmp_path: Path) -> None:
    image, ring = tmp_path / "flash.img", KeyRing()
    first, second = (sec1(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    for content in (first, b"\xff" * len(first), second + bytes(40) + sec1_of_no_key()):
        image.write_bytes(content)
        ring.look([image])
    assert ring.secrets() == [first[7:39], second[7:39]]


def sec1_of_no_key() -> bytes:
    """What looks like one, with a scalar that is no number below the order."""
    return b"\x30\x31\x02\x01\x01\x04\x20" + b"\xff" * 32
