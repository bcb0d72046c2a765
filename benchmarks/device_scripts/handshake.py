# One GET over a fresh TLS connection, by the board's `tls` alone and any suite that it has.
# argv: host, port, anchor, leaf and key (DER files); "none" as host connects to nobody.
import socket
import sys

import tls

host, port = sys.argv[1:3]
anchor, leaf, key = [open(path, "rb").read() for path in sys.argv[3:6]]
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.verify_mode = tls.CERT_REQUIRED
context.load_verify_locations(anchor)
context.load_cert_chain(leaf, key)
if host != "none":
    raw = socket.socket()
    raw.connect(socket.getaddrinfo(host, int(port))[0][-1])
    stream = context.wrap_socket(raw, server_hostname=host)
    stream.write(b"GET / HTTP/1.0\r\n\r\n")
    if not stream.read(64).startswith(b"HTTP/1.0 200"):
        raise SystemExit("not served")
