# Handfast mTLS for MicroPython: a private key that stays in an ATECC508A or ATECC608, over I2C
# MIT license; Copyright (c) 2026 the Handfast authors
"""A chip is used as it is configured, and must be locked: nothing here writes its configuration.

Where each rule of its protocol is written down, tests/firmware/atecc_model.py says.
"""

import hashlib
import time

from micropython import const

from . import der
from .errors import ConfigError, DecodeError, MTLSError, SecureElementError
from .keys import IN_CHIP, ecdsa_signature, private_key_der, public_key_info

ADDRESS = const(0x60)

_WAKE_HZ = const(100000)  # an octet of zeros holds SDA low for 80 us there; 60 us wake the chip
_WAKE_MS = const(2)
_WATCHDOG_MS = const(1700)  # by then an awake chip has put itself to sleep
_SHORT_MS = const(100)  # Info, Read, Random and Nonce take up to 29 ms
_LONG_MS = const(700)  # GenKey and Sign: 115 ms, and 665 at an ATECC608's slowest clock
_TRIES = const(3)
_AWAKE = const(b"\x04\x11\x33\x43")

# Word addresses
_SLEEP = const(1)
_IDLE = const(2)
_COMMAND = const(3)

# Commands
_READ = const(0x02)
_NONCE = const(0x16)
_RANDOM = const(0x1B)
_INFO = const(0x30)
_GENKEY = const(0x40)
_SIGN = const(0x41)

# Answers of one octet; the chip says GARBLED of what it could not read, and so do we
_DONE = const(0x00)
_ECC_FAULT = const(0x05)
_WATCHDOG = const(0xEE)
_GARBLED = const(0xFF)
_WORTH_REPEATING = const((_ECC_FAULT, _WATCHDOG, _GARBLED))

# The configuration zone
_REVISION = const(4)
_SLOT_CONFIG = const(20)
_LOCKS = const(86)  # of data and configuration
_SLOT_LOCKED = const(88)
_KEY_CONFIG = const(96)


def crc16(data):
    """CRC-16 (polynomial 0x8005, each octet's low bit first) as two octets, the low one first."""
    crc = 0
    for octet in data:
        for _ in range(8):
            feedback = crc >> 15 ^ octet & 1
            crc = (crc << 1 & 0xFFFF) ^ (0x8005 if feedback else 0)
            octet >>= 1
    return bytes((crc & 0xFF, crc >> 8))


class SecureElement:
    """The chip at `address` of a machine.I2C or SoftI2C that runs at 100 kHz: a faster clock's
    zeros are too short to wake it. `slots` maps identities ("a", "b", "idevid") to the chip's."""

    def __init__(self, i2c, address=ADDRESS, slots=()):
        self._i2c = i2c
        self._address = address
        self._slots = dict(slots)
        self._zone = None
        self._points = {}

    # What goes over the bus

    def _tell(self, word):
        try:
            self._i2c.writeto(self._address, bytes((word,)))
        except OSError:
            pass  # busy or asleep: waking finds out

    def _pulse(self):
        try:
            self._i2c.writeto(0, b"\0")
        except OSError:
            pass  # nobody answers to address 0: its zeros are the wake pulse
        time.sleep_ms(_WAKE_MS)

    def _wake(self):
        """A chip that a program cut short has left awake, or busy, is put to sleep first."""
        deadline = time.ticks_add(time.ticks_ms(), _WATCHDOG_MS)
        seen = bytearray(4)
        while True:
            self._pulse()
            try:
                self._i2c.readfrom_into(self._address, seen)
                if seen == _AWAKE:
                    return
            except OSError:
                pass
            if time.ticks_diff(deadline, time.ticks_ms()) < 0:
                raise SecureElementError(
                    "no secure element answers at 0x%02x: check wiring and pins" % self._address
                )
            self._tell(_SLEEP)

    def _exchange(self, packet, size, limit_ms):
        """Return the answer's content: `size` octets, or one that says what went wrong."""
        answer = bytearray(size + 3)
        deadline = time.ticks_add(time.ticks_ms(), limit_ms)
        try:
            self._i2c.writeto(self._address, packet)
        except OSError:
            return bytes((_GARBLED,))
        while True:
            time.sleep_ms(1)
            try:
                self._i2c.readfrom_into(self._address, answer)
                break
            except OSError:  # busy
                if time.ticks_diff(deadline, time.ticks_ms()) < 0:
                    return bytes((_GARBLED,))
        end = answer[0] - 2
        if end < 2 or crc16(answer[:end]) != answer[end : end + 2]:
            return bytes((_GARBLED,))
        return bytes(answer[1:end])

    def _execute(self, size, opcode, mode=0, key=0, data=b"", rest=_SLEEP, before=None):
        """Return the `size` octets that a command gives; raises SecureElementError.

        `before` does what has to come before each try of it.

        Waking anew for each command is what keeps the chip's watchdog away; what Nonce has put
        into the chip outlives _IDLE, and does not outlive _SLEEP.
        """
        body = bytes((7 + len(data), opcode, mode, key, 0)) + data
        packet = bytes((_COMMAND,)) + body + crc16(body)
        limit_ms = _LONG_MS if opcode in (_GENKEY, _SIGN) else _SHORT_MS
        for _ in range(_TRIES):
            if before:
                before()
            self._wake()
            content = self._exchange(packet, size, limit_ms)
            self._tell(rest)
            if len(content) == size and (size > 1 or content[0] == _DONE):
                return content
            if content[0] not in _WORTH_REPEATING:
                break
        raise SecureElementError(
            "the secure element answers 0x%02x to command 0x%02x" % (content[0], opcode), content[0]
        )

    # What it is

    def info(self):
        """Return the revision: its third octet is 0x50 for an ATECC508A, 0x60 for an ATECC608."""
        return self._execute(4, _INFO)

    def configuration(self):
        """Return the 128 octets of the configuration zone; read once, since it is to be locked."""
        if self._zone is None:
            blocks = [self._execute(32, _READ, 0x80, block << 3) for block in range(4)]
            self._zone = b"".join(blocks)
        return self._zone

    def serial(self):
        zone = self.configuration()
        return zone[:4] + zone[8:13]

    def locked(self):
        """Whether configuration and data are locked: before that, keys are not safe in it."""
        return self.configuration()[_LOCKS : _LOCKS + 2] == b"\0\0"

    def require(self, slot):
        """Raise ConfigError unless the slot holds a P-256 key that signs what it is given.

        Private, its public point known, P-256, used without authorisation (KeyConfig); secret, and
        signing messages from outside (SlotConfig).
        """
        if not self.locked():
            raise ConfigError("the secure element is not locked: configure and lock it first")
        zone = self.configuration()
        key, use = zone[_KEY_CONFIG + 2 * slot], zone[_SLOT_CONFIG + 2 * slot]
        if key & 0x9F != 0x13 or use & 0x81 != 0x81:
            raise ConfigError("slot %d of the secure element is not for signing keys" % slot)

    def permanent(self, slot):
        """Whether the slot keeps its key: configured so, or locked."""
        zone = self.configuration()
        locked = not zone[_SLOT_LOCKED + (slot >> 3)] >> (slot & 7) & 1
        return locked or not zone[_SLOT_CONFIG + 2 * slot + 1] & 0x20

    # What it does

    def random(self, rest=_SLEEP):
        """Return 32 random octets; the chip renews its generator's seed if that is due."""
        if not self.locked():
            raise ConfigError("the secure element is not locked: it gives no random numbers")
        return self._execute(32, _RANDOM, rest=rest)

    def _genkey(self, mode, slot):
        # A slot may be configured to want a nonce of the chip's own before (ReqRandom). Nobody
        # hears of this one; that it renews the generator's seed is what a new key needs anyway.
        def nonce():
            self._execute(32, _NONCE, 0, 0, bytes(20), rest=_IDLE)

        xy = self._execute(64, _GENKEY, mode, slot, before=nonce)
        self._points[slot] = b"\x04" + xy

    def point(self, slot):
        """Return the public point of the key in a slot: 65 octets, uncompressed."""
        if slot not in self._points:
            self.require(slot)
            self._genkey(0, slot)
        return self._points[slot]

    def generate(self, slot):
        """Make a key in a slot; the one that was there is gone."""
        self.require(slot)
        if self.permanent(slot):
            raise ConfigError("slot %d of the secure element keeps its key: name another" % slot)
        self._points.pop(slot, None)
        self._genkey(4, slot)

    def sign(self, slot, digest):
        """Return r and s, 32 octets each, over a digest of 32 octets."""
        self.require(slot)
        # An ATECC608 has a buffer for digests, which no other command touches.
        buffered = self.configuration()[_REVISION + 2] == 0x60

        def load():
            self.random(_IDLE)
            self._execute(1, _NONCE, 0x43 if buffered else 0x03, 0, digest, rest=_IDLE)

        return self._execute(64, _SIGN, 0xA0 if buffered else 0x80, slot, before=load)

    def fresh_key(self, name):
        """Return a new key for an identity; None if its keys are not to be in the chip.

        An IDevID may be permanent: then it is the one that is there.
        """
        slot = self._slots.get(name)
        if slot is None:
            return None
        if name != "idevid" or not self.permanent(slot):
            self.generate(slot)
        key = SecureElementKey(self, slot)
        key.public()  # a slot without a key is found out before anything is written
        return key


def _number(settings, name, low, high, default=None):
    value = settings.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(
            "config.json: secure_element's %s must be a whole number from %d to %d"
            % (name, low, high)
        )
    return value


def open_chip(settings):
    """Return the SecureElement that config.json's `secure_element` describes, and check that."""
    slots = settings.get("slots") if isinstance(settings, dict) else None
    if not isinstance(slots, dict) or not {"a", "b"} <= set(slots) <= {"a", "b", "idevid"}:
        raise ConfigError(
            "config.json: secure_element must have i2c, scl, sda, and slots for a, b, maybe idevid"
        )
    if len({_number(slots, name, 0, 15) for name in slots}) != len(slots):
        raise ConfigError("config.json: secure_element names a slot twice: each key needs its own")
    bus, scl, sda = [_number(settings, name, 0, 255) for name in ("i2c", "scl", "sda")]
    address = _number(settings, "address", 8, 0x77, ADDRESS)
    from machine import I2C, Pin

    return SecureElement(I2C(bus, scl=Pin(scl), sda=Pin(sda), freq=_WAKE_HZ), address, slots)


class _Signer:
    """What mbedTLS calls for a signature; remembers why there was none."""

    def __init__(self, key):
        self._key = key
        self.failure = None

    def __call__(self, _stand_in, digest):
        try:
            return self._key.sign_digest(digest)
        except MTLSError as error:
            self.failure = error
            raise


def sign_handshakes(context, identity):
    """Let a tls.SSLContext answer with an identity whose key is in a chip."""
    if not hasattr(context, "ecdsa_sign_callback"):
        raise ConfigError(
            "the key of %s is in a chip: TLS with it needs a firmware that is built with"
            " MICROPY_PY_SSL_ECDSA_SIGN_ALT=1" % identity.name
        )
    key = identity.key()
    context.load_cert_chain(identity.cert_der, key.stand_in())
    context.ecdsa_sign_callback = _Signer(key)


class SecureElementKey:
    """A P-256 key in a slot of a chip: signs as SoftwareKey does, and cannot be taken out.

    What is on flash is the number of the slot. Which key that is, the chip is asked: a key that
    was replaced, or another chip, is noticed by every certificate for the key that was there.
    """

    def __init__(self, chip, slot):
        self._chip = chip
        self._slot = slot

    def __repr__(self):
        return "<SecureElementKey>"

    @classmethod
    def from_der(cls, encoded, chip):
        """Reads what to_der() wrote."""
        reader = der.Reader(encoded)
        slot = reader.content(IN_CHIP)
        reader.finish()
        if len(slot) != 1 or slot[0] > 15:
            raise DecodeError("not a slot of a secure element")
        return cls(chip, slot[0])

    def to_der(self):
        """The reference that stands in a slot file in the place of a key."""
        return der.tlv(IN_CHIP, bytes((self._slot,)))

    def public(self):
        """The uncompressed point, 65 octets."""
        return self._chip.point(self._slot)

    def spki(self):
        """SubjectPublicKeyInfo (RFC 5480), DER."""
        return public_key_info(self.public())

    def matches(self, spki_der):
        """Whether a certificate's SubjectPublicKeyInfo is this key's."""
        return self.spki() == spki_der

    def sign(self, message):
        """ECDSA with SHA-256 of message: DER Ecdsa-Sig-Value (RFC 3279 §2.2.3)."""
        return self.sign_digest(hashlib.sha256(message).digest())

    def sign_digest(self, digest):
        """The same for a digest; of a longer one the first 32 octets count (FIPS 186-5 §6.4.1)."""
        rs = self._chip.sign(self._slot, bytes(digest[:32]))
        return ecdsa_signature(int.from_bytes(rs[:32], "big"), int.from_bytes(rs[32:], "big"))

    def stand_in(self):
        """A private key for `tls.load_cert_chain`, which wants one: 1, with our public point.

        mbedTLS asks ecdsa_sign_callback for each signature, and never uses it.
        """
        return private_key_der(1, self.public())
