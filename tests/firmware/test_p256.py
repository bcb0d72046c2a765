"""P-256: the comb against OpenSSL's arithmetic, its table, ECDSA with deterministic nonces."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given
from hypothesis import strategies as st
from mtls import p256
from mtls._p256_table import TABLE
from mtls.errors import EntropyError

SCALARS = st.integers(1, p256.N - 1) | st.sampled_from([1, 2, 3, 31, 32, p256.N - 1, p256.N - 2])
GENERATOR = Path(__file__).parents[2] / "scripts" / "make_p256_table.py"
RFC_6979 = json.loads((Path(__file__).parents[1] / "vectors" / "p256.json").read_text())


@given(SCALARS)
def test_multiple_is_what_openssl_computes(k):
    numbers = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers()
    assert p256.multiply(k, os.urandom) == (numbers.x, numbers.y)


@given(SCALARS, st.binary(min_size=9, max_size=9))
def test_every_blinding_gives_the_same_multiple(k, blinding):
    numbers = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers()

    def random(n):
        return blinding if n == 9 else os.urandom(n)

    assert p256.multiply(k, random) == (numbers.x, numbers.y)


@given(SCALARS)
def test_same_scalar_is_read_by_other_columns_each_time(k):
    assert p256._digits(k, os.urandom) != p256._digits(k, os.urandom)


@pytest.mark.parametrize("k", [0, p256.N, -1, 2**256])
def test_scalar_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match="range"):
        p256.multiply(k, os.urandom)


def test_fault_in_the_middle_gives_no_point_away(monkeypatch):
    right = p256._double
    monkeypatch.setattr(p256, "_double", lambda X, Y, Z: right(X ^ 1, Y, Z))
    with pytest.raises(EntropyError):
        p256.multiply(5, os.urandom)


def test_table_is_what_its_generator_makes():
    subprocess.run([sys.executable, GENERATOR, "--check"], check=True, timeout=60)


def test_each_point_of_the_table_is_on_the_curve():
    assert len(TABLE) == 2048
    for at in range(0, len(TABLE), 64):
        x, y = TABLE[at : at + 32], TABLE[at + 32 : at + 64]
        assert p256.on_curve(int.from_bytes(x, "big"), int.from_bytes(y, "big"))
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)


def test_public_key_is_the_one_of_the_rfc():
    public = p256.multiply(int(RFC_6979["private_key"], 16), os.urandom)
    assert public == (int(RFC_6979["public_x"], 16), int(RFC_6979["public_y"], 16))


@pytest.mark.parametrize("vector", RFC_6979["signatures"], ids=lambda vector: vector["message"])
def test_signature_is_the_one_of_the_rfc(vector):
    digest = hashlib.sha256(vector["message"].encode()).digest()
    signature = p256.sign(int(RFC_6979["private_key"], 16), digest, os.urandom)
    assert signature == (int(vector["r"], 16), int(vector["s"], 16))


@given(SCALARS, st.binary(max_size=100))
def test_signature_is_the_deterministic_one_of_openssl(d, message):
    key = ec.derive_private_key(d, ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    expected = utils.decode_dss_signature(key.sign(message, algorithm))
    assert p256.sign(d, hashlib.sha256(message).digest(), os.urandom) == expected


@given(SCALARS, st.binary(max_size=100))
def test_salted_signature_verifies_and_differs(d, message):
    digest = hashlib.sha256(message).digest()
    salted = p256.sign(d, digest, os.urandom, b"salt")
    assert salted != p256.sign(d, digest, os.urandom)
    public = ec.derive_private_key(d, ec.SECP256R1()).public_key()
    public.verify(utils.encode_dss_signature(*salted), message, ec.ECDSA(hashes.SHA256()))


@given(st.integers(1, 2**300), st.sampled_from([p256.P, p256.N]))
def test_inverse_times_itself_is_one(a, m):
    assert a % m == 0 or p256.inverse(a, m) * a % m == 1
