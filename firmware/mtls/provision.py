# Handfast mTLS for MicroPython: the board's side of provisioning, called over the serial console.
# MIT license; Copyright (c) 2026 the Handfast authors
"""Called by the host in the raw REPL; what keys are made of stays here.

Each function returns one line of ASCII or None, so that it can be read back from the console.
Errors leave as exceptions of mtls.errors; their text says what to do.

- ``put_seed(base64)``: mix the host's 32 bytes with os.urandom and write /mtls/seed.
- ``idevid_csr()``: base64 PKCS#10, one line. The key is made here on first call, stored in
  /mtls/idevid with an empty certificate, and the same key answers every later call.
  Needs /mtls/config.json and /mtls/seed.
- ``install_idevid(base64_der)``: check that the certificate holds our key, store it. The same
  certificate again is fine.
"""

import binascii


def put_seed(seed_base64):
    from .store import Store

    Store().put_seed(binascii.a2b_base64(seed_base64))


def install(store, key_der, cert_der=b""):
    """Write the factory identity: nobody else does, and the key that is there stays."""
    from .custody import pack_identity
    from .errors import ConfigError

    held = store.identity("idevid")
    if held is not None and held.key_der != key_der:
        raise ConfigError("the IDevID is read-only: provision this board to replace it")
    store._write("idevid", pack_identity(key_der, cert_der))


def idevid_csr():
    from .custody import hardware_id
    from .enrolment import enrolment_request
    from .net import radio_on
    from .store import Store

    store = Store()
    identity = store.identity("idevid")
    if identity is None:
        radio_on()
        key = store.make_key("idevid")
        install(store, key.to_der())
    else:
        key = identity.key(store.drbg())
    request = enrolment_request(key, store.config(), hardware_id())
    return binascii.b2a_base64(request).decode().replace("\n", "")


def install_idevid(certificate_base64):
    from .errors import StoreDamaged, Untrusted
    from .store import Identity, Store

    store = Store()
    identity = store.identity("idevid")
    if identity is None:
        raise StoreDamaged("no IDevID key on this board: ask for its CSR first")
    der = binascii.a2b_base64(certificate_base64)
    issued = Identity("idevid", identity.key_der, der, store.chip)
    if not issued.matches():
        raise Untrusted("the IDevID certificate is for another key: ask for the CSR again")
    if identity.cert_der != der:
        install(store, identity.key_der, der)
