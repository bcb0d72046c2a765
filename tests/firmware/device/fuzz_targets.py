# The parsers of what strangers send, each as a function of bytes. Runs on CPython, for the fuzzers,
# and on a board, for the corpus that they found: anything raised but MTLSError is a defect.
import hashlib

from mtls import config, csrattrs, der, http, keys, ntp, pkcs7, secrets, store, tsp, url, x509
from mtls.errors import MTLSError

# What the corpus's time-stamps answer (tests/firmware/device_pki.py).
_NONCE = 0x8123456789ABCDEF
_IMPRINT = hashlib.sha256(b"anything").digest()
_DEEPEST = 24
_PORTIONS = (1, 3, 64, 500)
_MAX_BODY = 1000
_METHODS = ("GET", "HEAD", "POST", "GET")
_URL_BYTES = 300


def _walk(reader, depth=0):
    while reader.more():
        tag = reader.peek()
        if tag == der.INTEGER:
            reader.integer()
        elif tag == der.OID:
            der.dotted(reader.oid())
        elif tag == der.BOOLEAN:
            reader.boolean()
        elif tag == der.BIT_STRING:
            reader.bits()
        elif tag & 0x20 and depth < _DEEPEST:
            _walk(reader.next()[1], depth + 1)
        else:
            reader.element()
    reader.finish()


def _certificate(data):
    certificate = x509.Certificate(data)
    certificate.unhandled()
    certificate.may(x509.KEY_CERT_SIGN)
    certificate.extension("2.5.29.17")
    x509.check_tls_anchor(data, [data], certificate.not_before)


def _pkcs7(data):
    for encoded in pkcs7.certificates(data):
        x509.Certificate(encoded)


def _http(data):
    """The first byte says how the rest is asked for and cut."""
    if not data:
        return
    parser = http.ResponseParser(_METHODS[data[0] & 3], _MAX_BODY)
    size = _PORTIONS[data[0] >> 2 & 3]
    out = bytearray(40)
    taken = 0
    for at in range(1, len(data), size):
        portion = data[at : at + size]
        parser.buf[: len(portion)] = portion
        parser.filled(len(portion))
        while parser.head():
            n = parser.pull(out)
            if not n:
                break
            taken += n
    assert taken <= _MAX_BODY
    if not parser.done:
        parser.filled(0)


def _url(data):
    try:
        text = data[:_URL_BYTES].decode()
    except (ValueError, UnicodeError):
        return
    url.split_url(text)


def targets(anchor):
    """Return name -> function; `anchor` (DER) is what the corpus's time-stamps lead to."""
    return {
        "certificate": _certificate,
        "config": config.parse_config,
        "csrattrs": csrattrs.check,
        "der": lambda data: _walk(der.Reader(data)),
        "http": _http,
        "key": keys.SoftwareKey.from_der,
        "ntp": lambda data: ntp.parse(data, data[24:32]),
        "pkcs7": _pkcs7,
        "secrets": secrets.parse_secrets,
        "slot": store.unpack_identity,
        "tsp": lambda data: tsp.verify(data, _NONCE, _IMPRINT, [anchor], 0),
        "url": _url,
    }


def accepts(target, data):
    """Whether the parser took the data; what is no error of the library's comes through."""
    try:
        target(data)
    except MTLSError:
        return False
    return True
