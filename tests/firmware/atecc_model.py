"""A model of the ATECC508A and ATECC608 on an I2C bus, for CPython and for MicroPython.

It is stricter than a chip may be, and meant never to be more lenient: what is not written down in a
named public source is refused. No code of these sources is here. Each rule names its source:

[DS]     Microchip, ATECC608A-TFLXTLS CryptoAuthentication data sheet, by section
[TNG]    Microchip, ATECC608B-TNGTLS CryptoAuthentication data sheet, by section
[CAL]    github.com/MicrochipTech/cryptoauthlib, by file
[LINUX]  Linux, drivers/crypto/atmel-i2c.c and .h, by function
[ECCX08] github.com/arduino-libraries/ArduinoECCX08, src/ECCX08.cpp, by function
[ATMEL]  Atmel Crypto Products, ecc108_examples.h (2014): the ECC108 data sheet's tables of
         SlotConfig and KeyConfig (2.2.1, 2.2.5) in its comments
[TOCK]   github.com/tock/tock, capsules/extra/src/atecc508a.rs
[RIOT]   github.com/RIOT-OS/RIOT, the configuration of an ATECC608A in atecc608a_config.h

Curve arithmetic comes from mtls.p256, which has tests of its own.
"""

import os

from mtls import p256

EIO = 5

# [TNG 8.3] SDA low for at least 60 us wakes; ready 1500 us later; at most 1.3 s (typical) awake.
WAKE_LOW_US = 60
WAKE_HIGH_US = 1500
WATCHDOG_US = 1300000

# [DS 4.3], [LINUX error_list]
OK, PARSE_ERROR, ECC_FAULT, EXECUTION_ERROR = 0x00, 0x03, 0x05, 0x0F
AWAKE, WATCHDOG_NEAR, GARBLED = 0x11, 0xEE, 0xFF

# [CAL calib_execution.c] ms that a command takes at most; an ATECC608's at its usual clock.
DURATION_MS = {
    0x50: {0x02: 5, 0x16: 29, 0x1B: 23, 0x30: 2, 0x40: 115, 0x41: 60},
    0x60: {0x02: 5, 0x16: 20, 0x1B: 23, 0x30: 5, 0x40: 115, 0x41: 115},
}
# [CAL calib_execution.c] the same for an ATECC608 at its slowest clock.
SLOWEST_MS = {0x40: 653, 0x41: 665}

ASLEEP, IDLE, ACTIVE = range(3)


def crc(data):
    """[LINUX atmel_i2c_checksum] polynomial 0x8005, from 0, bits reversed, low octet first.

    Shifted to the right, with the polynomial reversed: another way than the driver's.
    """
    value = 0
    for octet in data:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    straight = 0
    for _ in range(16):
        straight = straight << 1 | value & 1
        value >>= 1
    return bytes((straight & 0xFF, straight >> 8))


def frame(payload):
    """[DS 4.3] count, packet, two octets of CRC; the count counts itself and the CRC."""
    body = bytes((len(payload) + 3,)) + payload
    return body + crc(body)


def zone(part=0x60, locked=True, slots=None, slot_locked=0xFFFF):
    """A configuration zone: serial and revision, SlotConfig, locks and KeyConfig.

    slots maps a slot to (SlotConfig, KeyConfig); all others hold data that nobody may use.
    [DS 2.1] serial in 0-3 and 8-12, beginning with 01 23 and ending with 01. [ECCX08 begin]
    revision 00 00 50 or 60 in 4-7. [ATMEL slotConfig, keyConfig] two octets a slot, low first.
    [TOCK] LockValue in 86, LockConfig in 87: 0x55 is unlocked, 0x00 locked. [DS 2.1.1] SlotLocked
    in 88-89: a bit of 0 is locked.
    """
    data = bytearray(128)
    data[0:4] = b"\x01\x23\x45\x67"
    data[4:8] = bytes((0, 0, part, 2))
    data[8:13] = b"\x89\xab\xcd\xef\x01"
    data[14], data[16] = 1, 0xC0
    data[86] = data[87] = 0 if locked else 0x55
    data[88:90] = slot_locked.to_bytes(2, "little")
    for slot in range(16):
        config, key = (slots or SLOTS).get(slot, (0x8F8F, 0x003C))
        data[20 + 2 * slot : 22 + 2 * slot] = config.to_bytes(2, "little")
        data[96 + 2 * slot : 98 + 2 * slot] = key.to_bytes(2, "little")
    return data


# [DS 2.2.3] slot 0 permanent, 1 for internal signatures, 2 to 4 updatable and lockable; [TNG 2.2.4]
# all of them require a random nonce.
SLOTS = {0: (0x0083, 0x0053), 1: (0x0082, 0x0053), 2: (0x2087, 0x0073), 3: (0x2087, 0x0073)}


class Memory:
    """What survives sleep and power: the configuration zone and the private keys."""

    def __init__(self, data, keys=None):
        self.zone = bytearray(data)
        self.keys = keys or {}

    def save(self):
        pass


class Chip:
    """The chip behind its address. clock() gives microseconds that only count up."""

    def __init__(self, memory, clock, random=os.urandom):
        self.memory = memory
        self.clock = clock
        self.random = random
        self.part = memory.zone[6]
        self.duration_ms = dict(DURATION_MS[self.part])
        self.state = ASLEEP
        self.log = []  # opcodes that were executed, and "idle" and "sleep"
        self._forget()

    def _forget(self):
        # [DS 7.2.1] Sleep: the entire volatile state of the device is reset.
        self.state = ASLEEP
        self.temp_key = self.digest_buffer = None
        self.temp_key_is_random = False
        self.seeded = False
        self.out, self.at, self.ready_at, self.awake_since = b"", 0, 0, 0

    def _tick(self):
        # [LINUX atmel_i2c_send_receive] when the watchdog expires the chip enters sleep, whatever
        # is going on.
        if self.state == ACTIVE and self.clock() - self.awake_since >= WATCHDOG_US:
            self._forget()

    def pulse(self, low_us):
        """SDA was low that long."""
        self._tick()
        # [TNG 8.3] and [DS 7.1.1]: an awake chip ignores it.
        if low_us < WAKE_LOW_US or self.state == ACTIVE:
            return
        self.state = ACTIVE
        self.awake_since = self.clock()
        self.ready_at = self.clock() + WAKE_HIGH_US
        self._give(bytes((AWAKE,)))

    def _give(self, payload):
        self.out, self.at = frame(payload), 0

    def answers(self):
        """[DS 7.5] Busy, idle or asleep, it does not acknowledge its address."""
        self._tick()
        return self.state == ACTIVE and self.clock() >= self.ready_at

    def read(self, n):
        # [DS 7.5] the next octets of the output buffer; [LINUX] reads past a short answer's end.
        data = self.out[self.at : self.at + n]
        self.at += n
        return data + b"\xff" * (n - len(data))

    def write(self, data):
        """[DS 7.2.1] The first octet is the word address."""
        word, rest = data[0], bytes(data[1:])
        if word == 0:
            self.at = 0
        elif word == 1:
            self._forget()
            self.log.append("sleep")
        elif word == 2:
            # Idle keeps TempKey and the digest buffer, and stops the watchdog [LINUX].
            self.state = IDLE
            self.log.append("idle")
        elif word == 3:
            self._command(rest)

    def _command(self, packet):
        # [DS 4.2] count, opcode, param1, param2 (low octet first, [DS 5]), data, CRC; [CAL
        # calib_command.h] 7 to 151 octets; [DS 4.3] a CRC error comes before any other.
        if len(packet) < 7 or packet[0] != len(packet) or crc(packet[:-2]) != packet[-2:]:
            self._give(bytes((GARBLED,)))
            return
        opcode = packet[1]
        run = {
            0x02: self._read_zone,
            0x16: self._nonce,
            0x1B: self._random,
            0x30: self._info,
            0x40: self._genkey,
            0x41: self._sign,
        }.get(opcode)
        duration_us = self.duration_ms.get(opcode, 1) * 1000
        # [LINUX atmel_i2c_send_receive] too little time left: refused without being tried.
        if self.clock() + duration_us >= self.awake_since + WATCHDOG_US:
            self._give(bytes((WATCHDOG_NEAR,)))
            return
        self.ready_at = self.clock() + duration_us
        self.log.append(opcode)
        answer = PARSE_ERROR
        if run is not None:
            answer = run(packet[2], packet[3] | packet[4] << 8, packet[5:-2])
        # [DS 4.3] an answer of one octet is a status or an error code.
        self._give(bytes((answer,)) if isinstance(answer, int) else answer)

    # Commands: each returns its result, or a status

    def _info(self, mode, param2, data):
        # [CAL calib_command.h] Info, mode Revision; 7 octets come back [CAL INFO_RSP_SIZE].
        if mode or param2 or data:
            return PARSE_ERROR
        return bytes(self.memory.zone[4:8])

    def _read_zone(self, mode, address, data):
        # [CAL calib_command.h] zone in bits 0-1, bit 7 for 32 octets; [DS 2] the configuration
        # zone can always be read; [ECCX08 readConfiguration] addresses count words of 4 octets.
        if data or mode & 0x7C or address > 0x1F or (mode & 0x80 and address & 7):
            return PARSE_ERROR
        if mode & 3:
            return EXECUTION_ERROR
        return bytes(self.memory.zone[4 * address :][: 32 if mode & 0x80 else 4])

    def _random(self, mode, param2, data):
        # [ECCX08 random] mode 0, 32 octets come back. [CAL calib_sign.c] renews the seed.
        if mode > 1 or param2 or data:
            return PARSE_ERROR
        if self.memory.zone[87]:
            return EXECUTION_ERROR
        self.seeded = True
        return self.random(32)

    def _nonce(self, mode, param2, data):
        # [DS 5.1.4.1] random: mode 0, 20 octets in, a random number back; TempKey is then random.
        # [CAL calib_command.h] NONCE_MODE_SEED_UPDATE: mode 0 renews the seed.
        if mode == 0 and not param2 and len(data) == 20 and not self.memory.zone[87]:
            self.seeded = self.temp_key_is_random = True
            self.temp_key = self.random(32)
            return self.random(32)
        # [DS 5.1.4.2] fixed: 0x03 to TempKey, 0x43 to the message digest buffer, 32 octets; an
        # ATECC508A has TempKey only [CAL calib_sign.c].
        if param2 or len(data) != 32 or mode not in ((0x03, 0x43) if self.part == 0x60 else (3,)):
            return PARSE_ERROR
        if mode == 0x03:
            self.temp_key = data
            self.temp_key_is_random = False
        else:
            self.digest_buffer = data
        return OK

    def _key_slot(self, slot):
        """(SlotConfig, KeyConfig) of a slot that holds a private P-256 key, else None.

        [ATMEL keyConfig] bit 0 private, bits 2-4 the type, 4 for P-256, bit 7 ReqAuth: no key is
        ever authorised here. [ATMEL slotConfig] GenKey and Sign fail unless IsSecret (bit 7).
        [LINUX device_sanity_check] configuration and data must be locked.
        """
        data = self.memory.zone
        config = data[20 + 2 * slot] | data[21 + 2 * slot] << 8
        key = data[96 + 2 * slot] | data[97 + 2 * slot] << 8
        unlocked = data[86] or data[87]
        if unlocked or key & 0x9D != 0x11 or not config & 0x80:
            return None
        return config, key

    def _genkey(self, mode, slot, data):
        # [DS 5.2.2] mode 0x04 makes a key in the slot, 0x00 gives the public one: X and Y.
        if mode not in (0, 4) or slot > 15 or data:
            return PARSE_ERROR
        rules = self._key_slot(slot)
        if rules is None:
            return EXECUTION_ERROR
        config, key = rules
        # [ATMEL keyConfig] ReqRandom: GenKey requires a random nonce; here, of each GenKey's own.
        nonce, self.temp_key = self.temp_key, None
        if key & 0x40 and (nonce is None or not self.temp_key_is_random):
            return EXECUTION_ERROR
        if mode == 4:
            locked = not (self.memory.zone[88] | self.memory.zone[89] << 8) >> slot & 1
            # [DS 5.2.2.1] an error if the slot is locked, or its key permanent; [TOCK], [RIOT]:
            # WriteConfig's bit 1 (0x2000) is set in the slots that GenKey writes.
            if locked or not config & 0x2000:
                return EXECUTION_ERROR
            secret = 0
            while not 0 < secret < p256.N:
                secret = int.from_bytes(self.random(32), "big")
            self.memory.keys[slot] = secret
            self.memory.save()
        elif not key & 2:  # [ATMEL keyConfig] PubInfo: the public version can be generated
            return EXECUTION_ERROR
        if slot not in self.memory.keys:
            return ECC_FAULT  # [DS 5.2.2, public key]
        x, y = p256.multiply(self.memory.keys[slot], self.random)
        return x.to_bytes(32, "big") + y.to_bytes(32, "big")

    def _sign(self, mode, slot, data):
        # [DS 5.2.4.2] 0x80: the digest in TempKey, 0xA0: in the message digest buffer.
        if mode not in ((0x80, 0xA0) if self.part == 0x60 else (0x80,)) or slot > 15 or data:
            return PARSE_ERROR
        rules = self._key_slot(slot)
        # [ATMEL slotConfig] ReadKey's bit 0: external signatures of arbitrary messages are enabled.
        if rules is None or not rules[0] & 1:
            return EXECUTION_ERROR
        fixed = None if self.temp_key_is_random else self.temp_key
        digest = fixed if mode == 0x80 else self.digest_buffer
        self.temp_key = self.digest_buffer = None  # stricter than written: a digest signs once
        if digest is None:
            return EXECUTION_ERROR
        if slot not in self.memory.keys:
            return ECC_FAULT
        r, s = p256.sign(self.memory.keys[slot], digest, self.random, self.random(32))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Bus:
    """What machine.I2C is, with chips behind addresses, and a wire that can be disturbed.

    commands and answers list what happens to the next packets with a command, and to the next
    answers to one: None, "nack", or (n, mask): octet n comes over changed.
    """

    def __init__(self, chips, freq=100000):
        self.chips = chips
        self.freq = freq
        self.commands = []
        self.answers = []

    def _chip(self, address):
        chip = self.chips.get(address)
        if chip is None or not chip.answers():
            raise OSError(EIO)
        return chip

    def writeto(self, address, data, stop=True):
        if address == 0:
            # [DS 7.1.1] an octet 0x00 at a slow enough clock holds SDA low: eight bits of it.
            for chip in self.chips.values():
                chip.pulse(8000000 // self.freq)
            raise OSError(EIO)
        self._chip(address).write(_disturbed(data, self.commands if data[0] == 3 else None))
        return len(data)

    def readfrom_into(self, address, buffer, stop=True):
        chip = self._chip(address)
        woken = chip.out == frame(bytes((AWAKE,)))
        buffer[:] = _disturbed(chip.read(len(buffer)), None if woken else self.answers)


def _disturbed(data, faults):
    fault = faults.pop(0) if faults else None
    if fault == "nack":
        raise OSError(EIO)
    data = bytearray(data)
    if fault is not None:
        data[fault[0]] ^= fault[1]
    return bytes(data)


# On a simulated board


class FlashMemory(Memory):
    """A Memory in a file of the board's own flash, beside the files of the library.

    A chip that is new there has a key in slot 0, as it is sold.
    """

    def __init__(self, path="/chip"):
        self.path = path
        keys = {}
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            data = bytes(zone()) + b"\0" + b"\1" + os.urandom(31)
        for at in range(128, len(data), 33):
            keys[data[at]] = int.from_bytes(data[at + 1 : at + 33], "big")
        super().__init__(data[:128], keys)
        self.save()

    def save(self):
        with open(self.path, "wb") as file:
            file.write(self.zone)
            for slot, secret in self.keys.items():
                file.write(bytes((slot,)) + secret.to_bytes(32, "big"))
