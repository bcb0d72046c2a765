"""Signed time: a right reply is taken, a reply with any one rule broken is refused."""

import hashlib
import json
import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from device_pki import (
    IMPRINT,
    NONCE,
    NOW,
    RSA,
    SERVER_AUTH,
    SHA1,
    SHA256,
    SHA256_WITH_RSA,
    TIME_STAMPING,
    attribute,
    encoded,
    generalized,
    reply_by,
    root_plan,
    rsa_key,
    server_plan,
    tsa_plan,
)
from hypothesis import given
from hypothesis import strategies as st
from mtls import der, tsp
from mtls.errors import DecodeError, MTLSError, ProtocolError, UnsupportedAlgorithm, Untrusted

UNIX_NOW = int(NOW.timestamp())
SERVER = server_plan().make()
TSA = tsa_plan().make()
REPLY = reply_by(TSA, SERVER)
ANCHORS = [encoded(SERVER)]


def verify(reply, *, nonce=NONCE, imprint=IMPRINT, anchors=None, floor=0):
    return tsp.verify(reply, nonce, imprint, ANCHORS if anchors is None else anchors, floor)


def general_name(certificate):
    return der.tlv(0xA4, certificate.subject.public_bytes())


def issuer_serial(certificate, serial=None):
    names = der.sequence(der.tlv(0xA4, certificate.issuer.public_bytes()))
    return der.sequence(names, der.integer(serial or certificate.serial_number))


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(REPLY, id="plain"),
        pytest.param(REPLY.but(status=der.sequence(der.integer(1))), id="granted-with-mods"),
        pytest.param(REPLY.but(signature_algorithm=SHA256_WITH_RSA), id="sha256-with-rsa"),
        pytest.param(REPLY.but(time=generalized(NOW, ".123")), id="fraction"),
        pytest.param(REPLY.but(before_nonce=b""), id="no-accuracy"),
        pytest.param(
            REPLY.but(before_nonce=der.sequence(der.tlv(0x80, b"\x01\xf4"))), id="accuracy-millis"
        ),
        pytest.param(REPLY.but(ess_algorithm=SHA256), id="ess-algorithm-spelled-out"),
        pytest.param(REPLY.but(ess_tail=issuer_serial(TSA)), id="issuer-serial"),
        pytest.param(REPLY.but(after_nonce=der.tlv(0xA0, general_name(TSA))), id="named"),
        pytest.param(
            REPLY.but(imprint_algorithm=der.sequence(SHA256[2:], b"\x05\x00")), id="null-parameters"
        ),
        pytest.param(REPLY.but(sid=der.tlv(0x80, b"key id")), id="signer-by-key-id"),
        pytest.param(REPLY.but(certificates=[encoded(SERVER), encoded(TSA)]), id="other-order"),
        pytest.param(
            REPLY.but(extra_attributes=[attribute("1.2.840.113549.1.9.5", generalized(NOW))]),
            id="more-attributes",
        ),
    ],
)
def test_right_reply_gives_its_time(reply):
    assert verify(reply.make(), floor=UNIX_NOW) == UNIX_NOW


CRITICAL = der.tlv(
    0xA1, der.sequence(der.oid("1.2.3.4"), der.tlv(der.BOOLEAN, b"\xff"), der.octets(b""))
)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        pytest.param(REPLY.but(status=der.sequence(der.integer(2))), ProtocolError, id="rejected"),
        pytest.param(REPLY.but(content_info="1.2.840.113549.1.7.1"), DecodeError, id="not-signed"),
        pytest.param(REPLY.but(version=1), DecodeError, id="signed-data-version"),
        pytest.param(REPLY.but(content_type="1.2.840.113549.1.7.1"), DecodeError, id="content"),
        pytest.param(REPLY.but(info_version=2), DecodeError, id="info-version"),
        pytest.param(REPLY.but(policy="1.3.6.1.4.1.32473.7.2"), Untrusted, id="policy"),
        pytest.param(REPLY.but(imprint=bytes(32)), Untrusted, id="imprint"),
        pytest.param(REPLY.but(imprint_algorithm=SHA1), UnsupportedAlgorithm, id="imprint-sha1"),
        pytest.param(REPLY.but(nonce=der.integer(NONCE + 1)), Untrusted, id="nonce"),
        pytest.param(REPLY.but(nonce=b""), Untrusted, id="no-nonce"),
        pytest.param(REPLY.but(after_nonce=CRITICAL), Untrusted, id="critical-extension"),
        pytest.param(
            REPLY.but(after_nonce=der.tlv(0xA0, general_name(SERVER))), Untrusted, id="other-name"
        ),
        pytest.param(
            REPLY.but(before_nonce=der.sequence(der.tlv(0x80, b"\x03\xe8"))),
            DecodeError,
            id="accuracy-of-1000-ms",
        ),
        pytest.param(REPLY.but(time=generalized(NOW, ".10")), DecodeError, id="fraction-not-der"),
        pytest.param(REPLY.but(time=generalized(NOW, ".")), DecodeError, id="empty-fraction"),
        pytest.param(
            REPLY.but(time=der.tlv(der.GENERALIZED_TIME, b"202611201200Z")),
            DecodeError,
            id="no-seconds",
        ),
        pytest.param(REPLY.but(digest_algorithm=SHA1), UnsupportedAlgorithm, id="digest-sha1"),
        pytest.param(
            REPLY.but(signature_algorithm=der.sequence(der.oid("1.2.840.10045.4.3.2"))),
            UnsupportedAlgorithm,
            id="ecdsa",
        ),
        pytest.param(
            REPLY.but(attribute_type="1.2.840.113549.1.7.1"), DecodeError, id="attribute-content"
        ),
        pytest.param(REPLY.but(message_digest=bytes(32)), Untrusted, id="message-digest"),
        pytest.param(REPLY.but(drop_attribute=0), DecodeError, id="no-content-type"),
        pytest.param(REPLY.but(drop_attribute=1), DecodeError, id="no-message-digest"),
        pytest.param(REPLY.but(drop_attribute=2), DecodeError, id="no-signing-certificate"),
        pytest.param(
            REPLY.but(extra_attributes=[attribute("1.2.840.113549.1.9.4", der.octets(bytes(32)))]),
            DecodeError,
            id="digest-twice",
        ),
        pytest.param(REPLY.but(ess_hash=bytes(32)), Untrusted, id="ess-of-none"),
        pytest.param(
            REPLY.but(ess_hash=hashlib.sha256(encoded(SERVER)).digest()), Untrusted, id="ess-of-ca"
        ),
        pytest.param(REPLY.but(ess_algorithm=SHA1), UnsupportedAlgorithm, id="ess-sha1"),
        pytest.param(REPLY.but(ess_tail=issuer_serial(TSA, 5)), Untrusted, id="ess-serial"),
        pytest.param(REPLY.but(ess_tail=issuer_serial(SERVER)), Untrusted, id="ess-issuer"),
        pytest.param(REPLY.but(signer_serial=5), Untrusted, id="signer-serial"),
        pytest.param(
            REPLY.but(signer_name=SERVER.issuer.public_bytes()), Untrusted, id="signer-name"
        ),
        pytest.param(REPLY.but(sign_as=0xA0), Untrusted, id="signed-as-sent"),
        pytest.param(REPLY.but(signature=bytes(256)), Untrusted, id="zero-signature"),
        pytest.param(REPLY.but(key=rsa_key("server")), Untrusted, id="other-key"),
        pytest.param(REPLY.but(certificates=[]), Untrusted, id="no-certificates"),
        pytest.param(REPLY.but(certificates=[encoded(SERVER)]), Untrusted, id="no-leaf"),
        pytest.param(REPLY.but(certificates=[encoded(TSA)] * 5), DecodeError, id="five-certs"),
        pytest.param(REPLY.but(signers=0), DecodeError, id="no-signer"),
        pytest.param(REPLY.but(signers=2), DecodeError, id="two-signers"),
    ],
)
def test_reply_with_one_rule_broken_is_refused(reply, error):
    with pytest.raises(error):
        verify(reply.make())


def test_reply_without_a_token_is_refused():
    with pytest.raises(DecodeError):
        verify(der.sequence(der.sequence(der.integer(0))))


TIME_STAMPING_AND_MORE = [TIME_STAMPING, SERVER_AUTH]
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
LATER = {"not_before": NOW + timedelta(seconds=1)}
EARLIER = {"not_after": NOW - timedelta(seconds=1)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"eku": TIME_STAMPING_AND_MORE}, id="two-purposes"),
        pytest.param({"eku": [SERVER_AUTH]}, id="other-purpose"),
        pytest.param({"eku": []}, id="no-purpose"),
        pytest.param({"eku_critical": False}, id="purpose-not-critical"),
        pytest.param({"ca": True, "key_cert_sign": True}, id="a-ca"),
        pytest.param({"digital_signature": False}, id="key-usage"),
        pytest.param({"extra": [(UNKNOWN, True)]}, id="critical-extension"),
        pytest.param({"issuer": "other"}, id="issuer-name"),
        pytest.param({"issuer_key": rsa_key("root")}, id="issuer-key"),
        pytest.param(LATER, id="not-yet-valid"),
        pytest.param(EARLIER, id="expired"),
    ],
)
def test_unfit_leaf_is_refused(changes):
    leaf = replace(tsa_plan(), **changes).make()
    with pytest.raises(Untrusted):
        verify(reply_by(leaf, SERVER).make())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"eku": [SERVER_AUTH]}, id="not-for-time-stamping"),
        pytest.param({"eku": []}, id="no-purpose"),
        pytest.param({"ca": False, "path_length": None}, id="not-a-ca"),
        pytest.param({"key_cert_sign": False}, id="key-usage"),
        pytest.param({"extra": [(UNKNOWN, True)]}, id="critical-extension"),
        pytest.param(LATER, id="not-yet-valid"),
        pytest.param(EARLIER, id="expired"),
        pytest.param({"key": rsa_key("root")}, id="other-key"),
        pytest.param({"subject": "other"}, id="other-name"),
    ],
)
def test_unfit_anchor_is_refused(changes):
    anchor = replace(server_plan(), **changes).make()
    with pytest.raises(Untrusted):
        verify(REPLY.make(), anchors=[encoded(anchor)])


def test_right_anchor_is_found_among_others():
    others = [encoded(root_plan().make()), encoded(server_plan().make())]
    assert verify(REPLY.make(), anchors=[others[0], *ANCHORS]) == UNIX_NOW
    with pytest.raises(Untrusted):
        verify(REPLY.make(), anchors=[])


@pytest.mark.parametrize("changes", [EARLIER, {"eku": [SERVER_AUTH]}], ids=["expired", "purpose"])
def test_renewed_anchor_is_found_behind_its_former_self(changes):
    former = replace(server_plan(), **changes).make()
    assert verify(REPLY.make(), anchors=[encoded(former), *ANCHORS]) == UNIX_NOW


def test_anchor_of_another_algorithm_does_not_hide_the_right_one():
    other = replace(server_plan(), key=ec.generate_private_key(ec.SECP256R1())).make()
    assert verify(REPLY.make(), anchors=[encoded(other), *ANCHORS]) == UNIX_NOW
    with pytest.raises(UnsupportedAlgorithm):
        verify(REPLY.make(), anchors=[encoded(other)])


def test_leaf_with_an_elliptic_curve_key_is_unsupported():
    leaf = replace(tsa_plan(), key=ec.generate_private_key(ec.SECP256R1())).make()
    with pytest.raises(UnsupportedAlgorithm):
        verify(reply_by(leaf, SERVER).make())


def test_time_below_the_floor_is_refused():
    with pytest.raises(Untrusted):
        verify(REPLY.make(), floor=UNIX_NOW + 1)


def test_reply_to_another_question_is_refused():
    with pytest.raises(Untrusted):
        verify(REPLY.make(), nonce=NONCE - 1)
    with pytest.raises(Untrusted):
        verify(REPLY.make(), imprint=bytes(32))


RIGHT = REPLY.make()


def test_reply_cut_anywhere_is_refused():
    for size in range(len(RIGHT)):
        with pytest.raises(MTLSError):
            verify(RIGHT[:size])


def test_reply_with_a_byte_more_is_refused():
    with pytest.raises(DecodeError):
        verify(RIGHT + b"\0")
    with pytest.raises(ProtocolError):
        verify(RIGHT + bytes(20000))


# A bit in what the signature does not cover may change: the version of the CA's own extras, the
# digest list, the sent CA. What must never change is the time.
@given(at=st.integers(0, len(RIGHT) - 1), bit=st.integers(0, 7))
def test_altered_reply_never_gives_another_time(at, bit):
    altered = bytearray(RIGHT)
    altered[at] ^= 1 << bit
    with suppress(MTLSError):
        assert verify(bytes(altered)) == UNIX_NOW


@given(
    st.lists(
        st.tuples(st.integers(0, len(RIGHT) - 1), st.binary(max_size=6), st.integers(0, 6)),
        min_size=1,
        max_size=6,
    )
)
def test_random_mutations_raise_nothing_but_our_errors(cuts):
    altered = bytearray(RIGHT)
    for at, piece, gone in cuts:
        altered[at : at + gone] = piece
    with suppress(MTLSError):
        assert verify(bytes(altered)) == UNIX_NOW


@given(st.binary(max_size=300))
def test_noise_raises_nothing_but_our_errors(noise):
    with pytest.raises(MTLSError):
        verify(noise)


# ---- Against OpenSSL, both ways ----


def pem(folder, **certificates):
    for name, certificate in certificates.items():
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))


def openssl(folder, *arguments):
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


OPENSSL_TSA = """
[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
certs = server.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.32473.7.1
digests = sha256
accuracy = secs:1, millisecs:500
clock_precision_digits = 3
ess_cert_id_alg = sha256
"""


@pytest.mark.parametrize("options", ["tsa_name = yes\n", "ess_cert_id_chain = yes\n", ""])
def test_openssl_as_authority_is_believed(tmp_path, options):
    now = datetime.now(UTC).replace(microsecond=0)
    valid = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=5)}
    server, tsa = replace(server_plan(), **valid).make(), replace(tsa_plan(), **valid).make()
    pem(tmp_path, server=server, tsa=tsa)
    key = rsa_key("tsa").private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "tsa.key").write_bytes(key)
    (tmp_path / "tsa.cnf").write_text(OPENSSL_TSA + options)
    (tmp_path / "serial").write_text("01")
    (tmp_path / "query").write_bytes(tsp.query(NONCE, IMPRINT))
    command = "ts -reply -config tsa.cnf -queryfile query -out reply"
    openssl(tmp_path, *command.split())
    floor = int(now.timestamp())
    reply = (tmp_path / "reply").read_bytes()
    assert 0 <= verify(reply, anchors=[encoded(server)], floor=floor) - floor < 60


def test_openssl_agrees_with_the_reply_that_the_tests_break(tmp_path):
    root = root_plan().make()
    pem(tmp_path, root=root, server=SERVER)
    (tmp_path / "query").write_bytes(tsp.query(NONCE, IMPRINT))
    (tmp_path / "reply").write_bytes(RIGHT)
    command = "ts -verify -queryfile query -in reply -CAfile root.pem -untrusted server.pem"
    output = openssl(tmp_path, *command.split(), "-attime", str(UNIX_NOW))
    assert "Verification: OK" in output


def test_query_is_what_openssl_reads(tmp_path):
    (tmp_path / "query").write_bytes(tsp.query(NONCE.to_bytes(8, "big"), IMPRINT))
    text = openssl(tmp_path, "ts", "-query", "-in", "query", "-text")
    assert "Hash Algorithm: sha256" in text
    assert f"Nonce: 0x{NONCE:X}" in text
    assert "Certificate required: yes" in text


def test_policy_is_the_wire_constant():
    vectors = Path(__file__).parent.parent / "vectors"
    assert json.loads((vectors / "wire.json").read_text())["tsa_policy_oid"] == tsp.POLICY


def test_signature_of_the_right_padding_only():
    attributes = der.tlv(0x31, REPLY.attributes(REPLY.info()))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    forged = rsa_key("tsa").sign(attributes, pss, hashes.SHA256())
    with pytest.raises(Untrusted):
        verify(REPLY.but(signature=forged, signature_algorithm=RSA).make())
