"""The library's pure modules on CPython and, by the same scripts, on a board's MicroPython."""

import json
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from device_interpreter import DEVICE_SCRIPTS, micropython_environment, run_script
from device_pki import (
    IMPRINT,
    NONCE,
    NOW,
    Plan,
    encoded,
    name_of,
    reply_by,
    root_plan,
    rsa_key,
    server_plan,
    tsa_plan,
)

VECTORS = Path(__file__).parent.parent / "vectors"


def test_published_vectors_hold_and_stuck_randomness_is_refused(run_device, tmp_path):
    given = {name: json.loads((VECTORS / f"{name}.json").read_text()) for name in VECTOR_FILES}
    (tmp_path / "given.json").write_text(json.dumps(given))
    key_hex, csr_hex = run_device("p256_and_drbg.py", "given.json")
    key = serialization.load_der_private_key(bytes.fromhex(key_hex), None)
    request = x509.load_der_x509_csr(bytes.fromhex(csr_hex))
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()


VECTOR_FILES = ("p256", "hmac_drbg")


def test_certificates_pkcs7_time_stamps_and_calendar(run_device, tmp_path):
    root, server, tsa = root_plan().make(), server_plan().make(), tsa_plan().make()
    moments = [datetime(y, m, 1, tzinfo=UTC) - timedelta(seconds=1) for y in YEARS for m in (1, 3)]
    given = {
        "now": int(NOW.timestamp()),
        "certificates": [facts(one) for one in (root, server, tsa)],
        "pkcs7": pkcs7.serialize_certificates([root, server], Encoding.DER).hex(),
        "reply": reply_by(tsa, server).make().hex(),
        "imprint": IMPRINT.hex(),
        "nonce": hex(NONCE),
        "gen_time": int(NOW.timestamp()),
        "calendar": [[int(t.timestamp()), [*t.timetuple()[:6], t.weekday()]] for t in moments],
    }
    (tmp_path / "given.json").write_text(json.dumps(given))
    run_device("certificates_and_time.py", "given.json")


YEARS = (1970, 1971, 2000, 2001, 2024, 2026, 2027, 2100, 2101, 2400)


def facts(certificate: x509.Certificate) -> dict[str, object]:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        purposes = []
    return {
        "der": encoded(certificate).hex(),
        "serial": hex(certificate.serial_number),
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "is_ca": constraints.ca,
        "path_length": constraints.path_length,
        "eku": [one.dotted_string for one in purposes],
    }


def test_board_clock_is_set_in_unix_seconds(micropython, tmp_path):
    (epoch,) = run_script(micropython, "board_clock.py", cwd=tmp_path)
    assert epoch == ("2000" if "sim-esp32" in str(micropython) else "1970")


def test_board_shakes_hands_by_the_key_it_made(micropython, tmp_path):
    now = datetime.now(UTC)
    valid = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=1)}
    ca_key, server_key = rsa_key("server"), ec.generate_private_key(ec.SECP256R1())
    ca = Plan("ca", ca_key, "ca", ca_key, ca=True, **valid).make()
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    leaf = Plan("leaf", server_key, "ca", ca_key, extra=[(names, False)], **valid).make()
    with tls_server(tmp_path, ca, leaf, server_key) as listener:
        port = listener.getsockname()[1]
        seen: list[bytes] = []
        thread = threading.Thread(target=echo_once, args=(listener, seen))
        board = subprocess.Popen(
            [micropython, DEVICE_SCRIPTS / "key_in_tls.py", str(tmp_path / "board"), str(port)],
            env=micropython_environment(),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with board:
            assert board.stdout.readline() == "ready\n"
            thread.start()
            request = x509.load_der_x509_csr((tmp_path / "board.csr").read_bytes())
            (tmp_path / "board.cert").write_bytes(client_leaf(request, ca_key, valid))
            (tmp_path / "board.anchor").write_bytes(encoded(ca))
            output, _ = board.communicate("go\n", timeout=60)
        thread.join(30)
    assert output == "b'hello'\n"
    assert x509.load_der_x509_certificate(seen[0]).public_key() == request.public_key()


def client_leaf(request, ca_key, valid) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(name_of("ca"))
        .public_key(request.public_key())
        .serial_number(1)
        .not_valid_before(valid["not_before"])
        .not_valid_after(valid["not_after"])
    )
    return encoded(builder.sign(ca_key, hashes.SHA256()))


def tls_server(folder, ca, leaf, key) -> ssl.SSLSocket:
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    private = key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    return context.wrap_socket(listener, server_side=True)


def echo_once(listener: ssl.SSLSocket, seen: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(30)
        seen.append(connection.getpeercert(binary_form=True) or b"")
        connection.sendall(connection.recv(5))


def test_importing_der_loads_nothing_heavy(micropython, tmp_path):
    program = "import mtls.der, sys; print(sorted(m for m in sys.modules if m[:4] == 'mtls'))"
    done = subprocess.run(
        [micropython, "-c", program],
        env=micropython_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "['mtls', 'mtls.der', 'mtls.errors']\n"
