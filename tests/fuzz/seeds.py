"""Writes the corpus's seeds, one right input or more a parser: `python -m tests.fuzz.seeds`.

They are kept in the repository; keys are random, so writing them anew changes them all, and the
inputs that the fuzzer found stay.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

CORPUS = Path(__file__).parent.parent / "corpus"
_LIBRARY = Path(__file__).parents[2] / "firmware"
_TESTS = Path(__file__).parent.parent / "firmware"
_ON_PATH = (_LIBRARY, _TESTS, _TESTS / "device", _TESTS / "micropython_model")
sys.path[:0] = [str(folder) for folder in _ON_PATH]

_CONFIG = {
    "schema": 1,
    "device_id": "board-1",
    "api_url": "https://gateway.example:8443",
    "enrol_url": "https://[2001:db8::1]:8444/x",
    "tsa_url": "http://gateway.example:8080/tsa",
    "ntp_host": "ntp.example",
    "ntp_port": 123,
    "trust_domain": "example.test",
    "networks": ["home"],
    "root_sha256": "00" * 32,
    "telemetry_interval_s": 5,
}


def nearly_right(time_stamp: bytes) -> dict[str, bytes]:
    """Return what a right time-stamp becomes by another octet, each refused by another rule.

    A fuzzer that goes by lines reached hardly gets past the signed digest by itself.
    """
    from device_pki import IMPRINT, NONCE, RSA
    from mtls import der

    def changed(at: int, octet: int) -> bytes:
        return time_stamp[:at] + bytes([octet]) + time_stamp[at + 1 :]

    nonce = time_stamp.index(der.integer(NONCE))
    # The time comes after the imprint, the signature after the last name of its algorithm.
    time = time_stamp.index(b"Z", time_stamp.index(IMPRINT))
    algorithm = time_stamp.rindex(RSA)
    signature = algorithm + len(RSA)
    return {
        "near-nonce": changed(nonce + 6, time_stamp[nonce + 6] ^ 1),
        "near-time": changed(time - 1, time_stamp[time - 1] ^ 1),
        "near-algorithm": changed(signature - 3, 5),  # sha1WithRSAEncryption
        "near-length": changed(signature + 3, 1),  # an octet more than there are
        "near-signature": changed(len(time_stamp) - 1, time_stamp[-1] ^ 1),
    }


def seeds() -> Mapping[str, Mapping[str, bytes]]:
    """Return parser → name → input."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs7,
    )
    from device_pki import SERVER_AUTH, encoded, reply_by, root_plan, server_plan, tsa_plan
    from est_peer import P256_WANTED
    from mtls import ntp
    from mtls.custody import pack_identity

    root, server, tsa = root_plan().make(), server_plan().make(), tsa_plan().make()
    own = replace(root_plan(), eku=[SERVER_AUTH]).make()
    key = ec.generate_private_key(ec.SECP256R1())
    sec1 = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    nonce = hashlib.sha256(b"ntp").digest()[:8]
    answer = b"\x24\x02\x00\x00" + bytes(20) + nonce + bytes(8) + b"\xed\x00\x00\x00" + bytes(4)
    assert ntp.parse(answer, nonce)
    time_stamp = reply_by(tsa, server).make()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n"
    return {
        "": {"anchor.der": encoded(server)},
        "certificate": {"good": encoded(own), "root": encoded(root), "server": encoded(server)},
        "config": {"good": json.dumps(_CONFIG).encode()},
        "csrattrs": {"good": P256_WANTED},
        "der": {"good": encoded(server)},
        "http": {
            "good-length": b"\x00HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nhi",
            "good-chunked": b"\x04" + chunked,
            "good-close": b"\x0aHTTP/1.0 200 OK\r\n\r\nuntil the end",
            "good-head": b"\x01HTTP/1.1 204 No Content\r\n\r\n",
            "good-interim": b"\x0cHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 N\r\n\r\n",
        },
        "key": {"good": sec1},
        "ntp": {"good": answer},
        "pkcs7": {"good": pkcs7.serialize_certificates([root, server], Encoding.DER)},
        "secrets": {"good": b'{"token": "t", "wifi": {"home": "p"}}'},
        "slot": {"good": pack_identity(sec1, encoded(tsa)), "good-key": pack_identity(sec1)},
        "tsp": {"good": time_stamp, **nearly_right(time_stamp)},
        "url": {"good": b"https://host:8443/path", "good-6": b"http://[::1]:80/"},
    }


def main() -> None:
    for parser, inputs in seeds().items():
        (CORPUS / parser).mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (CORPUS / parser / name).write_bytes(data)


if __name__ == "__main__":
    main()
