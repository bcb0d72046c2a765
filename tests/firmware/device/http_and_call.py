# Parses responses and resolves what a session decides, by the vectors in the JSON file of argv[1].
import binascii
import json
import sys

from mtls.errors import ProtocolError
from mtls.http import ResponseParser
from mtls.query import encode
from mtls.redirect import resolve
from mtls.retry import backoff_ms, retry_after_ms


def parse(raw, portion, room):
    parser = ResponseParser("GET", 64, portion)
    out = bytearray(room)
    body = b""
    try:
        for at in range(0, len(raw), portion):
            piece = raw[at : at + portion]
            parser.buf[: len(piece)] = piece
            parser.filled(len(piece))
            while parser.head():
                n = parser.pull(out)
                if not n:
                    break
                body += out[:n]
        if not parser.done:
            parser.filled(0)
    except ProtocolError:
        return None
    return [parser.status, parser.reason, parser.headers.get("X-A"), body.decode()]


def where(location):
    try:
        return resolve(location, "gw:8443", "/a/b/c?q=1")
    except ProtocolError:
        return None


with open(sys.argv[1]) as file:  # noqa: PTH123 (MicroPython)
    given = json.load(file)
result = {
    "responses": [
        [parse(binascii.unhexlify(raw), portion, room) for portion, room in given["portions"]]
        for raw in given["responses"]
    ],
    "locations": [where(one) for one in given["locations"]],
    "retry_after": [retry_after_ms(one, given["now"]) for one in given["retry_after"]],
    "backoff": [backoff_ms(n, b"\x80\x00") for n in range(1, 9)],
    "query": encode(given["fields"]),
}
print(json.dumps(result))
