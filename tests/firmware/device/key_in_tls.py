# Runs on a board: its TLS takes our private key with a certificate for it, and shakes hands by it.
# ruff: noqa: PTH123  (MicroPython has no pathlib and no pytest)
import socket
import sys

import tls
from mtls import entropy, keys

key = keys.SoftwareKey.generate(entropy.gather())
request = keys.csr(key, keys.device_subject("dev-1"))
with open(sys.argv[1] + ".csr", "wb") as file:
    file.write(request)
print("ready")
sys.stdin.readline()

with open(sys.argv[1] + ".cert", "rb") as file:
    certificate = file.read()
with open(sys.argv[1] + ".anchor", "rb") as file:
    anchor = file.read()
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.load_verify_locations(anchor)
context.load_cert_chain(certificate, key.to_der())
sock = socket.socket()
sock.connect(socket.getaddrinfo("127.0.0.1", int(sys.argv[2]))[0][-1])
secured = context.wrap_socket(sock, server_hostname="localhost")
secured.write(b"hello")
print(secured.read(5))
