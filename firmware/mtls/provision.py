# Handfast mTLS for MicroPython: the board's side of provisioning, called over the serial console.
# MIT license; Copyright (c) 2026 the Handfast authors
"""Called by the host in raw REPL: ``import mtls.provision as p; print(p.status())``.

Each function returns one line of ASCII (JSON or base64), so that the host prints and parses it.
Errors leave as exceptions of mtls.errors; their text says what to do.

- ``prepare()``: make the folders /lib, /lib/mtls, /mtls, /mtls/anchor; returns "ok".
- ``status(under="/lib/mtls")``: JSON {"unique_id": hex, "implementation", "version": "1.26.1",
  "machine", "epoch_year", "device_id" or null, "seed": bool, "idevid": bool,
  "slots": {"a": "absent"|"pending"|"leaf", "b": ...}, "pointer": "a"|"b"|null,
  "files": {path: sha256 hex}} (the files under ``under``).
- ``hashes(under)``: JSON {path: sha256 hex} of every file under a folder ({} when absent).
- ``commit(temporary, path, sha256_hex)``: check the uploaded file and rename it onto its place;
  returns "ok". A wrong hash removes the temporary file and raises StoreDamaged.
- ``put_seed(base64)``: mix the host's 32 bytes with os.urandom and write /mtls/seed; "ok".
- ``idevid_csr()``: base64 PKCS#10, one line. The key is made here on first call, stored in
  /mtls/idevid with an empty certificate, and the same key answers every later call.
  Needs /mtls/config.json and /mtls/seed.
- ``install_idevid(base64_der)``: check that the certificate holds our key, store it; returns
  JSON {"serial": hex, "not_after": unix}. The same certificate again is fine.
- ``summary()``: JSON {"device_id", "hardware_id", "anchors": [sha256 hex], "roots": [sha256 hex],
  "idevid": null or {"serial", "not_after"}, "token": bool, "current": "a"|"b"|null}.
"""

import binascii
import json
import os


def _folder(path):
    try:
        os.mkdir(path)
    except OSError as error:
        if error.errno != 17:  # EEXIST
            raise


def prepare():
    for path in ("/lib", "/lib/mtls", "/mtls", "/mtls/anchor"):
        _folder(path)
    return "ok"


def _sha256(path):
    import hashlib

    digest = hashlib.sha256()
    buffer = bytearray(512)
    with open(path, "rb") as file:
        while True:
            n = file.readinto(buffer)
            if not n:
                return binascii.hexlify(digest.digest()).decode()
            digest.update(memoryview(buffer)[:n])


def _walk(under, found):
    try:
        entries = list(os.ilistdir(under))
    except OSError:
        return found
    for entry in entries:
        path = under + "/" + entry[0]
        if entry[1] & 0x4000:
            _walk(path, found)
        else:
            found[path] = _sha256(path)
    return found


def hashes(under):
    return json.dumps(_walk(under.rstrip("/"), {}))


def status(under="/lib/mtls"):
    import sys
    import time

    from .errors import MTLSError
    from .store import Store, hardware_id

    store = Store()
    try:
        device_id = store.config()["device_id"]
    except MTLSError:
        device_id = None
    slots = {}
    for name in ("a", "b"):
        identity = store.identity(name)
        slots[name] = "absent" if identity is None else "leaf" if identity.cert_der else "pending"
    idevid = store.identity("idevid")
    return json.dumps(
        {
            "unique_id": hardware_id(),
            "implementation": sys.implementation[0],
            "version": ".".join([str(n) for n in sys.implementation[1][:3]]),
            "machine": getattr(sys.implementation, "_machine", ""),
            "epoch_year": time.gmtime(0)[0],
            "device_id": device_id,
            "seed": store.has_seed(),
            "idevid": idevid is not None and bool(idevid.cert_der),
            "slots": slots,
            "pointer": store.current(),
            "files": _walk(under.rstrip("/"), {}),
        }
    )


def commit(temporary, path, sha256_hex):
    from .errors import StoreDamaged

    if _sha256(temporary) != sha256_hex:
        os.remove(temporary)
        raise StoreDamaged(path + " arrived damaged: send it again")
    os.rename(temporary, path)
    return "ok"


def put_seed(seed_base64):
    from .store import Store

    Store().put_seed(binascii.a2b_base64(seed_base64))
    return "ok"


def idevid_csr():
    from .keys import SoftwareKey, csr, device_san, device_subject
    from .store import Store, hardware_id

    store = Store()
    config = store.config()
    identity = store.identity("idevid")
    if identity is None:
        key = SoftwareKey.generate(store.drbg())
        identity = store.write_identity("idevid", key.to_der())
    request = csr(
        identity.key(store.drbg()),
        device_subject(config["device_id"], hardware_id()),
        device_san(config["trust_domain"], config["device_id"]),
    )
    return binascii.b2a_base64(request).decode().replace("\n", "")


def _facts(identity):
    certificate = identity.certificate()
    return {"serial": "%x" % certificate.serial, "not_after": certificate.not_after}


def install_idevid(certificate_base64):
    from .errors import StoreDamaged, Untrusted
    from .store import Identity, Store

    store = Store()
    identity = store.identity("idevid")
    if identity is None:
        raise StoreDamaged("no IDevID key on this board: ask for its CSR first")
    der = binascii.a2b_base64(certificate_base64)
    issued = Identity("idevid", identity.key_der, der)
    if not issued.matches():
        raise Untrusted("the IDevID certificate is for another key: ask for the CSR again")
    if identity.cert_der != der:
        store.write_identity("idevid", identity.key_der, der)
    return json.dumps(_facts(issued))


def _fingerprints(certificates):
    import hashlib

    return [binascii.hexlify(hashlib.sha256(der).digest()).decode() for der in certificates]


def summary():
    from .store import Store, hardware_id

    store = Store()
    idevid = store.identity("idevid")
    return json.dumps(
        {
            "device_id": store.config()["device_id"],
            "hardware_id": hardware_id(),
            "anchors": _fingerprints(store.anchors()),
            "roots": _fingerprints(store.roots()),
            "idevid": _facts(idevid) if idevid is not None and idevid.cert_der else None,
            "token": store.token() is not None,
            "current": store.current(),
        }
    )
