# One GET from the gateway over a fresh TLS connection, by the board's `tls` alone, with the suites
# that the library offers. argv: host, port, anchor, leaf and key (DER files); port 0 connects to
# nobody.
import socket
import sys

import tls

host, port = sys.argv[1], int(sys.argv[2])
anchor, leaf, key = [open(path, "rb").read() for path in sys.argv[3:6]]
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.set_ciphers(("TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",))
context.load_verify_locations(anchor)
context.load_cert_chain(leaf, key)
if port:
    raw = socket.socket()
    raw.connect(socket.getaddrinfo(host, port)[0][-1])
    stream = context.wrap_socket(raw, server_hostname=host)
    stream.write(b"GET /v1/ping HTTP/1.1\r\nHost: bench\r\n\r\n")
    if not stream.read(12).startswith(b"HTTP/1.1 200"):
        raise SystemExit("not served")
    stream.close()
