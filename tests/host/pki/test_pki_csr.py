from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pki_kit import new_key

from handfast.pki.csr import MAX_CSR_BYTES, CsrError, parse_csr

_KEY = new_key()


def _request(key: object, algorithm: hashes.HashAlgorithm | None, padding: int = 0) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
    )
    if padding:
        value = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(padding))
        builder = builder.add_extension(value, critical=True)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


_GOOD = _request(_KEY, hashes.SHA256())


def _refusal(der: bytes) -> str:
    with pytest.raises(CsrError) as caught:
        parse_csr(der)
    assert caught.value.exit_code == 5
    return caught.value.slug


def test_a_good_request_gives_its_key_and_that_keys_hash() -> None:
    parsed = parse_csr(_GOOD)
    spki = _KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert parsed.public_key == _KEY.public_key()
    assert parsed.spki_sha256 == hashlib.sha256(spki).digest()
    assert parsed.der == _GOOD


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_any_sha2_signature_is_accepted(algorithm: hashes.HashAlgorithm) -> None:
    assert parse_csr(_request(_KEY, algorithm)).public_key == _KEY.public_key()


def test_names_and_extensions_in_a_request_do_not_matter() -> None:
    assert parse_csr(_request(_KEY, hashes.SHA256(), padding=20)).public_key == _KEY.public_key()


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["P-384", "secp256k1", "RSA", "Ed25519"],
)
def test_only_p256_keys_are_accepted(key: object, algorithm: hashes.HashAlgorithm | None) -> None:
    assert _refusal(_request(key, algorithm)) == "csr-weak-key"


def test_a_request_signed_by_another_key_is_refused() -> None:
    assert _refusal(_GOOD[:-1] + bytes([_GOOD[-1] ^ 1])) == "csr-signature"


@pytest.mark.parametrize(
    "der",
    [b"", b"\x30", b"\x30\x00", b"not DER", _GOOD[:-1], _GOOD + b"\x00"],
    ids=["nothing", "a tag", "an empty sequence", "text", "cut short", "trailing data"],
)
def test_what_is_not_exactly_one_request_is_malformed(der: bytes) -> None:
    assert _refusal(der) == "csr-malformed"


def test_an_oversized_request_is_malformed_however_good() -> None:
    assert _refusal(_request(_KEY, hashes.SHA256(), padding=MAX_CSR_BYTES)) == "csr-malformed"


@pytest.mark.parametrize("change", [0x01, 0x20, 0x80, 0xFF])
def test_a_request_changed_in_any_byte_is_refused_or_still_proves_its_key(change: int) -> None:
    for position in range(len(_GOOD)):
        changed = bytearray(_GOOD)
        changed[position] ^= change
        try:
            parsed = parse_csr(bytes(changed))
        except CsrError:
            continue
        # Only what is not signed may have changed: nothing of it is left in what is issued.
        assert parsed.public_key == _KEY.public_key(), position


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_refusal(junk: bytes) -> None:
    assert _refusal(junk) in {"csr-malformed", "csr-weak-key", "csr-signature"}
