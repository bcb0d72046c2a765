# Connections one after another by the board's `tls` alone, each with a context of its own, as the
# library makes them. argv: store, host, port, how many, "resumed" or "full".
import socket
import sys

import tls
from mtls.store import Store

store, host, port, connections, kind = sys.argv[1:6]
identity = Store(store).identity("a")
anchor = next(iter(Store(store).anchors()))
address = socket.getaddrinfo(host, int(port))[0][-1]
session = None
resumed = 0
for _ in range(int(connections)):
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(("TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",))
    context.load_verify_locations(anchor)
    context.load_cert_chain(identity.cert_der, identity.key_der)
    raw = socket.socket()
    raw.connect(address)
    stream = context.wrap_socket(raw, server_hostname=host, session=session)
    if kind == "resumed":
        session = stream.session
    resumed += stream.session_reused
    stream.close()
print(resumed)
