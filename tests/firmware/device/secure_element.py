# Runs on CPython and on a board: mtls.atecc against the model of the chip, in virtual time.
# ruff: noqa: PT018, UP031  (MicroPython has no pathlib and no pytest)
# Prints the scenarios that passed, and the certification request of a key in the chip, in hex.
import hashlib
import sys

sys.path.insert(0, __file__.rsplit("/", 2)[0])

import atecc_model as model
from mtls import atecc, keys
from mtls.errors import ConfigError, DecodeError, SecureElementError

DIGEST = bytes(range(32))
COMMANDS = {0x02: "read", 0x16: "nonce", 0x1B: "random", 0x30: "info", 0x40: "genkey", 0x41: "sign"}


class VirtualTime:
    """What `time` is to the driver: sleeping moves the clock, and nothing else does."""

    def __init__(self):
        self.us = 5000000

    def ticks_ms(self):
        return self.us // 1000

    def ticks_add(self, ticks, delta):
        return ticks + delta

    def ticks_diff(self, a, b):
        return a - b

    def sleep_ms(self, ms):
        self.us += ms * 1000


class Rig:
    """A chip with keys in slots 0, 2 and 3, its bus, and the driver in front of it."""

    def __init__(self, part=0x60, freq=100000, driver=atecc, **of_zone):
        if not isinstance(driver.time, VirtualTime):
            driver.time = VirtualTime()
        self.time = driver.time
        keys = {0: 111, 1: 222, 2: 333, 3: 444}
        memory = model.Memory(model.zone(part, **of_zone), keys)
        self.chip = model.Chip(memory, lambda: self.time.us)
        self.bus = model.Bus({0x60: self.chip}, freq)
        self.driver = driver
        self.element = driver.SecureElement(self.bus)

    def commands(self):
        return [COMMANDS.get(word, word) for word in self.chip.log]


def raises(kind, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        return error
    raise AssertionError("%s was not raised" % kind.__name__)


def verifies(rs, slot_key, digest):
    """Whether r and s sign the digest: s = (e + r d) / k, so that k G has r for its x."""
    n = model.p256.N
    r, s = int.from_bytes(rs[:32], "big"), int.from_bytes(rs[32:], "big")
    k = (int.from_bytes(digest, "big") + r * slot_key) * pow(s, n - 2, n) % n
    return model.p256.multiply(k, model.os.urandom)[0] % n == r


# The scenarios: each takes a function that makes a Rig


def crc_is_the_chips(rig):
    crc = rig().driver.crc16
    for data in (b"", b"\x00", b"\x04\x11", bytes(range(256)), b"\xff" * 7):
        assert crc(data) == model.crc(data)
    assert crc(b"\x04\x11") == b"\x33\x43"


def says_what_it_is(rig):
    for part in (0x50, 0x60):
        element = rig(part).element
        assert element.info()[2] == part
        assert element.serial() == b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01"
        assert element.locked()
    assert not rig(locked=False).element.locked()


def sleeps_after_each_call_and_keeps_the_zone(rig):
    one = rig()
    one.element.configuration()
    assert one.commands() == ["read", "sleep"] * 4
    assert one.chip.state == model.ASLEEP
    one.element.serial()
    assert len(one.chip.log) == 8


def signs_by_the_key_of_the_slot(rig):
    for part in (0x50, 0x60):
        one = rig(part)
        for slot, key in ((0, 111), (2, 333)):
            assert verifies(one.element.sign(slot, DIGEST), key, DIGEST)
        assert one.commands()[-6:] == ["random", "idle", "nonce", "idle", "sign", "sleep"]
        # Each signature is made after a Random command since the chip slept.
        assert not one.chip.seeded


def signs_a_new_digest_each_time(rig):
    one = rig()
    other = b"\x55" * 32
    assert verifies(one.element.sign(2, DIGEST), 333, DIGEST)
    assert verifies(one.element.sign(2, other), 333, other)


def atecc608_takes_the_digest_into_its_own_buffer(rig):
    one = rig(0x60)
    nonce, modes = one.chip._nonce, []
    one.chip._nonce = lambda mode, param2, data: modes.append(mode) or nonce(mode, param2, data)
    one.element.sign(2, DIGEST)
    assert modes == [0x43]


def slowest_clock_is_waited_for(rig):
    one = rig()
    one.chip.duration_ms.update(model.SLOWEST_MS)
    assert verifies(one.element.sign(2, DIGEST), 333, DIGEST)
    one.element.generate(2)


def generates_and_tells_the_point(rig):
    one = rig()
    before = one.element.point(2)
    one.element.generate(2)
    after = one.element.point(2)
    assert before != after and len(after) == 65 and after[0] == 4
    x, y = model.p256.multiply(one.chip.memory.keys[2], model.os.urandom)
    assert after[1:] == x.to_bytes(32, "big") + y.to_bytes(32, "big")
    assert one.commands()[-4:] == ["nonce", "idle", "genkey", "sleep"]
    asked = len(one.chip.log)
    one.element.point(2)
    assert len(one.chip.log) == asked, "the point is remembered"
    # Another program asks the chip, and gets the same.
    again = one.driver.SecureElement(one.bus)
    assert again.point(2) == after and again.point(3) != after


def failed_generation_leaves_no_point_behind(rig):
    one = rig()
    one.element.point(2)
    one.bus.answers = [None, (9, 1)] * 3  # the key is made each time, and never heard of
    raises(SecureElementError, one.element.generate, 2)
    x, _ = model.p256.multiply(one.chip.memory.keys[2], model.os.urandom)
    assert one.element.point(2)[1:33] == x.to_bytes(32, "big")


def slots_that_want_no_nonce_do_without(rig):
    one = rig(slots={2: (0x2087, 0x0033)})
    one.element.generate(2)
    assert verifies(one.element.sign(2, DIGEST), one.chip.memory.keys[2], DIGEST)


def new_key_is_made_with_a_renewed_seed(rig):
    one = rig(slots={2: (0x2087, 0x0033)})
    genkey, seeded = one.chip._genkey, []
    one.chip._genkey = lambda *rest: seeded.append(one.chip.seeded) or genkey(*rest)
    one.element.generate(2)
    assert seeded == [True]


def random_numbers_differ(rig):
    element = rig().element
    first = element.random()
    assert len(first) == 32 and first != element.random()


def unlocked_chip_is_not_used(rig):
    for call in ("random", "point", "generate", "sign"):
        one = rig(locked=False)
        arguments = {"random": (), "sign": (2, DIGEST)}.get(call, (2,))
        assert "lock" in raises(ConfigError, getattr(one.element, call), *arguments).args[0]
        assert set(one.chip.log) <= {0x02, "sleep"}


def half_locked_chip_is_not_used(rig):
    for at in (86, 87):
        one = rig()
        one.chip.memory.zone[at] = 0x55
        raises(ConfigError, one.element.point, 2)


def slots_that_cannot_sign_are_named(rig):
    wrong = {
        "for internal signatures only": (0x2082, 0x0033),
        "not secret": (0x2007, 0x0033),
        "not private": (0x2087, 0x0032),
        "public key not to be had": (0x2087, 0x0031),
        "not P-256": (0x2087, 0x003F),
        "needs authorisation": (0x2087, 0x00B3),
    }
    for why, rules in wrong.items():
        one = rig(slots={2: rules})
        error = raises(ConfigError, one.element.sign, 2, DIGEST)
        assert "slot 2" in error.args[0], why
        assert set(one.chip.log) <= {0x02, "sleep"}, why
    rig(slots={2: (0x2081, 0x0013)}).element.point(2)
    rig(slots={15: (0x2087, 0x0073)}).element.generate(15)


def permanent_keys_stay(rig):
    locked = rig(slot_locked=0xFFFF & ~(1 << 2))
    written_by_others = rig(slots={2: (0xDF87, 0x0033)})
    for one, slot in ((rig(), 0), (locked, 2), (written_by_others, 2)):
        assert one.element.permanent(slot)
        raises(ConfigError, one.element.generate, slot)
        one.element.sign(slot, DIGEST)
    assert not rig().element.permanent(3)
    high = rig(slots={10: (0x2087, 0x0033)}, slot_locked=0xFFFF & ~(1 << 10)).element
    assert high.permanent(10)
    high = rig(slots={10: (0x2087, 0x0033)}, slot_locked=0xFFFF & ~(1 << 2)).element
    assert not high.permanent(10)


def damaged_bytes_are_sent_and_asked_for_again(rig):
    for fault in ((1, 1), (3, 0x80), (7, 1), "nack"):
        one = rig()
        one.bus.commands = [fault, None, fault, fault]
        assert one.element.info()[2] == 0x60
        assert one.element.info()[2] == 0x60
        assert one.bus.commands == []
    for fault in ((0, 0x10), (0, 0xFF), (1, 1), (3, 0x70), (6, 4)):
        one = rig()
        one.bus.answers = [fault, fault]
        assert one.element.info()[:3] == b"\0\0\x60"
        assert one.bus.answers == []


def lost_answers_cost_the_whole_row_of_commands(rig):
    for part in (0x50, 0x60):
        one = rig(part)
        one.element.point(2)
        one.bus.answers = [None, None, (9, 1)]  # to Random, Nonce and Sign
        assert verifies(one.element.sign(2, DIGEST), 333, DIGEST)
        one.bus.answers = [None, (9, 1)]  # to Nonce and GenKey
        one.element.generate(2)
        x, _ = model.p256.multiply(one.chip.memory.keys[2], model.os.urandom)
        assert one.element.point(2)[1:33] == x.to_bytes(32, "big")


def wire_that_stays_bad_is_told(rig):
    for disturbed in ("commands", "answers"):
        one = rig()
        setattr(one.bus, disturbed, [(2, 1)] * 99)
        error = raises(SecureElementError, one.element.info)
        assert error.args[1] == model.GARBLED
        assert 0 < len(getattr(one.bus, disturbed)) < 99, "it gives up"
    one = rig()
    one.chip._info = lambda *_: b""
    assert raises(SecureElementError, one.element.info).args[1] == model.GARBLED


def absent_chip_is_told_with_its_address(rig):
    one = rig()
    one.bus.chips.clear()
    began = one.time.us
    assert "0x60" in raises(SecureElementError, one.element.info).args[0]
    assert one.time.us - began < 3000000


def refusal_is_told_with_its_code(rig):
    one = rig()
    one.element.point(2)
    del one.chip.memory.keys[3]
    assert raises(SecureElementError, one.element.point, 3).args[1] == model.ECC_FAULT
    one.chip.memory.zone[20 + 4] = 0x82  # what the driver has read is out of date
    before = len(one.chip.log)
    assert raises(SecureElementError, one.element.sign, 2, DIGEST).args[1] == model.EXECUTION_ERROR
    assert one.commands()[before:].count("sign") == 1, "not worth repeating"
    one.chip._nonce = lambda *_: model.PARSE_ERROR
    assert raises(SecureElementError, one.element.sign, 2, DIGEST).args[1] == model.PARSE_ERROR


def fast_bus_does_not_wake_the_chip(rig):
    raises(SecureElementError, rig(freq=400000).element.info)


def chip_left_awake_is_taken_over(rig):
    one = rig()
    # A program was cut short after it had woken the chip, and after a command.
    one.chip.pulse(80)
    one.time.sleep_ms(2)
    one.chip.read(4)
    began = one.time.us
    assert one.element.info()[2] == 0x60
    assert one.time.us - began < 50000, "not by waiting for its watchdog"
    one.chip.pulse(80)
    one.time.sleep_ms(2)
    one.chip.write(b"\x03" + b"\x07\x30\0\0\0" + model.crc(b"\x07\x30\0\0\0"))
    one.time.sleep_ms(5)
    assert one.element.info()[2] == 0x60


def chip_left_busy_is_waited_for(rig):
    one = rig()
    one.chip.duration_ms[0x40] = 1200
    one.chip.pulse(80)
    one.time.sleep_ms(2)
    one.chip.write(b"\x03" + b"\x07\x40\0\2\0" + model.crc(b"\x07\x40\0\2\0"))
    assert one.element.info()[2] == 0x60


def watchdog_never_bites_a_row_of_commands(rig):
    one = rig()
    one.chip.duration_ms.update({0x1B: 90, 0x16: 90, 0x41: 665})
    for _ in range(4):
        assert verifies(one.element.sign(2, DIGEST), 333, DIGEST)


def digest_lost_to_power_is_never_signed_over(rig):
    one = rig()
    one.element.point(2)
    # The chip loses power between Nonce and Sign: no digest, no signature.
    one.chip._nonce = lambda *_: 0
    assert raises(SecureElementError, one.element.sign, 2, DIGEST).args[1] == 0x0F


def key_does_what_a_software_key_does(rig):
    one = rig()
    key = one.driver.SecureElementKey(one.element, 2)
    assert key.public() == one.element.point(2) and key.matches(key.spki())
    assert not key.matches(one.driver.SecureElementKey(one.element, 3).spki())
    assert repr(key) == str(key) == "<SecureElementKey>"
    again = one.driver.SecureElementKey.from_der(key.to_der(), one.element)
    assert again.spki() == key.spki()
    digest = hashlib.sha256(b"message").digest()
    for der in (key.sign(b"message"), key.sign_digest(digest + b"\x77" * 16)):
        assert verifies(integers(der), 333, digest)


def integers(der):
    """r and s of an Ecdsa-Sig-Value, 32 octets each."""
    reader = keys.der.only(der)
    return b"".join([reader.integer().to_bytes(32, "big") for _ in range(2)])


def reference_holds_no_key(rig):
    one = rig()
    key = one.driver.SecureElementKey(one.element, 3)
    assert key.to_der() == b"\x82\x01\x03"
    for wrong in (b"", b"\x82\x00", b"\x82\x01\x10", b"\x82\x02\x00\x03", b"\x82\x01\x03\x00"):
        raises(DecodeError, one.driver.SecureElementKey.from_der, wrong, one.element)
    raises(DecodeError, keys.SoftwareKey.from_der, key.to_der())


def stand_in_has_our_point_and_no_secret(rig):
    one = rig()
    key = one.driver.SecureElementKey(one.element, 2)
    body = keys.der.only(key.stand_in())
    assert body.integer() == 1
    assert body.content(4) == bytes(31) + b"\x01"
    assert key.stand_in().find(key.public()) > 0


SCENARIOS = (
    crc_is_the_chips,
    says_what_it_is,
    sleeps_after_each_call_and_keeps_the_zone,
    signs_by_the_key_of_the_slot,
    signs_a_new_digest_each_time,
    atecc608_takes_the_digest_into_its_own_buffer,
    slowest_clock_is_waited_for,
    generates_and_tells_the_point,
    failed_generation_leaves_no_point_behind,
    slots_that_want_no_nonce_do_without,
    new_key_is_made_with_a_renewed_seed,
    random_numbers_differ,
    unlocked_chip_is_not_used,
    half_locked_chip_is_not_used,
    slots_that_cannot_sign_are_named,
    permanent_keys_stay,
    damaged_bytes_are_sent_and_asked_for_again,
    lost_answers_cost_the_whole_row_of_commands,
    wire_that_stays_bad_is_told,
    absent_chip_is_told_with_its_address,
    refusal_is_told_with_its_code,
    fast_bus_does_not_wake_the_chip,
    chip_left_awake_is_taken_over,
    chip_left_busy_is_waited_for,
    watchdog_never_bites_a_row_of_commands,
    digest_lost_to_power_is_never_signed_over,
    key_does_what_a_software_key_does,
    reference_holds_no_key,
    stand_in_has_our_point_and_no_secret,
)


def request():
    """The certification request of the key in slot 2, in hex."""
    import binascii

    key = atecc.SecureElementKey(Rig().element, 2)
    subject = keys.device_subject("dev-1", "AB01")
    return binascii.hexlify(keys.csr(key, subject, keys.device_san("t", "dev-1"))).decode()


if __name__ == "__main__":
    for scenario in SCENARIOS:
        scenario(Rig)
        print(scenario.__name__)
    print(request())
