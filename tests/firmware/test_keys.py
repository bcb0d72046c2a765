"""The device's key and its certification request, as the rest of the world reads them."""

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from mtls import keys
from mtls.drbg import HmacDrbg
from mtls.errors import ConfigError, DecodeError, MTLSError

DRBG = HmacDrbg(bytes(range(48)))
KEY = keys.SoftwareKey.generate(DRBG)
ENCODED = KEY.to_der()
DEVICE_IDS = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,62}\Z")
PRINTABLE = st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?",
    min_size=1,
    max_size=64,
)


def test_encoding_is_what_openssl_would_write():
    key = serialization.load_der_private_key(ENCODED, None)
    assert (
        key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        == ENCODED
    )
    assert KEY.spki() == key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert KEY.public() == key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def test_key_reads_back_and_knows_its_certificate():
    again = keys.SoftwareKey.from_der(ENCODED, DRBG)
    assert again.to_der() == ENCODED
    assert again.matches(KEY.spki())
    assert not again.matches(keys.SoftwareKey.generate(DRBG).spki())


def test_key_of_openssl_is_read():
    encoded = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    assert keys.SoftwareKey.from_der(encoded).to_der() == encoded


def test_key_of_another_curve_is_refused():
    encoded = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    with pytest.raises(DecodeError):
        keys.SoftwareKey.from_der(encoded)


@pytest.mark.parametrize(
    ("at", "octet"),
    [(4, 2), (7, 0xFF), (-1, None)],
    ids=["version", "secret-out-of-range", "point-off-curve"],
)
def test_damaged_key_is_refused(at, octet):
    damaged = bytearray(ENCODED)
    if at == 7:
        damaged[7:39] = b"\xff" * 32
    else:
        damaged[at] = octet if octet is not None else damaged[at] ^ 1
    with pytest.raises(DecodeError):
        keys.SoftwareKey.from_der(bytes(damaged))


@given(st.integers(0, len(ENCODED) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_mutated_key_raises_nothing_but_our_errors(at, piece, gone):
    try:
        keys.SoftwareKey.from_der(ENCODED[:at] + piece + ENCODED[at + gone :])
    except MTLSError:
        return


def test_key_is_never_printed():
    assert repr(KEY) == str(KEY) == "<SoftwareKey>"


@given(st.binary(max_size=200))
def test_signature_verifies_and_is_fresh_each_time(message):
    public = serialization.load_der_public_key(KEY.spki())
    first, second = KEY.sign(message), KEY.sign(message)
    assert first != second
    for signature in (first, second):
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def test_key_without_generator_gathers_its_own():
    signature = keys.SoftwareKey.from_der(ENCODED).sign(b"message")
    public = serialization.load_der_public_key(KEY.spki())
    public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_generation_rejects_what_is_not_a_scalar():
    answers = [b"\xff" * 32, bytes(31) + b"\x06"]

    class Scripted:
        def generate(self, n):
            return answers.pop(0) if answers else DRBG.generate(n)

    key = keys.SoftwareKey.generate(Scripted())
    numbers = serialization.load_der_private_key(key.to_der(), None).private_numbers()
    assert numbers.private_value == 7


def expected_subject(device_id, hardware_id):
    names = [x509.NameAttribute(NameOID.COMMON_NAME, device_id)]
    if hardware_id:
        names.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, hardware_id))
    return x509.Name(names).public_bytes()


@given(DEVICE_IDS, st.none() | PRINTABLE)
def test_request_carries_the_names_of_the_device(device_id, hardware_id):
    subject = keys.device_subject(device_id, hardware_id)
    assert subject == expected_subject(device_id, hardware_id)
    san = keys.device_san("handfast.local", device_id)
    request = x509.load_der_x509_csr(keys.csr(KEY, subject, san))
    assert request.is_signature_valid
    assert request.subject.public_bytes() == subject
    assert isinstance(request.signature_hash_algorithm, hashes.SHA256)
    (only,) = request.extensions
    assert not only.critical
    uri = f"spiffe://handfast.local/device/{device_id}"
    assert only.value == x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


@given(DEVICE_IDS)
def test_names_of_a_leaf_are_repeated_byte_for_byte(device_id):
    uri = x509.UniformResourceIdentifier(f"spiffe://t.example/device/{device_id}")
    value = x509.SubjectAlternativeName([uri]).public_bytes()
    assert keys.device_san("t.example", device_id) == value
    assert value in keys.csr(KEY, expected_subject(device_id, "X"), value)


def test_request_without_names_in_an_extension():
    request = x509.load_der_x509_csr(keys.csr(KEY, keys.device_subject("dev-1")))
    assert request.is_signature_valid
    assert not list(request.extensions)


@pytest.mark.parametrize("hardware_id", ["a_b", "é", "a*b", "a@b", "\x00"])
def test_hardware_id_that_is_not_printable_is_refused(hardware_id):
    with pytest.raises(ConfigError):
        keys.device_subject("dev-1", hardware_id)


def test_openssl_verifies_the_request(tmp_path):
    subject = keys.device_subject("dev-1", "AA:01")
    (tmp_path / "csr").write_bytes(keys.csr(KEY, subject, keys.device_san("t", "dev-1")))
    command = "openssl req -inform DER -in csr -verify -noout -subject"
    done = subprocess.run(
        command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "verify OK" in done.stdout + done.stderr
    assert "CN = dev-1, serialNumber = AA:01" in done.stdout
