"""What only a board's MicroPython shows of a pure module: its clock set, its key in TLS."""

import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from device_interpreter import DEVICE_SCRIPTS, micropython_environment, run_script
from device_pki import Plan, encoded, name_of, rsa_key


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
