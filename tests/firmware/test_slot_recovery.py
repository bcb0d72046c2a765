"""What the board does with the slots it finds on flash: pure functions, every combination."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls.custody import pack_identity, recovery_order, spare_slot
from mtls.store import unpack_identity

NOW = 1_800_000_000
OLD = (NOW - 100, NOW + 50)
NEW = (NOW - 10, NOW + 90)
EXPIRED = (NOW - 500, NOW - 1)
ENDING = (NOW - 50, NOW)  # the plan calls it lost
STATES = [None, (), OLD, NEW, EXPIRED, ENDING]
POINTERS = [None, "a", "b"]
COMBINATIONS = list(itertools.product(POINTERS, STATES, STATES, [False, True]))


def usable(facts):
    return bool(facts) and facts[1] > NOW


@pytest.mark.parametrize(("pointer", "a", "b", "idevid"), COMBINATIONS)
def test_every_usable_identity_is_tried_once_and_nothing_else(pointer, a, b, idevid):
    order = recovery_order(pointer, {"a": a, "b": b}, idevid, NOW)
    expected = {name for name, facts in (("a", a), ("b", b)) if usable(facts)}
    assert set(order) == expected | ({"idevid"} if idevid else set())
    assert len(order) == len(set(order))
    if idevid:
        assert order[-1] == "idevid"


@pytest.mark.parametrize(("pointer", "a", "b", "idevid"), COMBINATIONS)
def test_the_newest_leaf_is_tried_first_and_the_pointer_breaks_a_tie(pointer, a, b, idevid):
    order = recovery_order(pointer, {"a": a, "b": b}, idevid, NOW)
    if usable(a) and usable(b):
        if a == b:
            assert order[0] == (pointer or order[0])
        else:
            assert order[0] == ("a" if a[0] > b[0] else "b")


@pytest.mark.parametrize(("pointer", "a", "b", "_"), COMBINATIONS)
def test_a_new_key_never_overwrites_the_active_slot(pointer, a, b, _):
    for active in ("a", "b"):
        assert spare_slot(active, pointer, {"a": a, "b": b}) != active


@pytest.mark.parametrize(("pointer", "a", "b", "_"), COMBINATIONS)
def test_without_an_active_leaf_a_pending_key_is_taken_up(pointer, a, b, _):
    name = spare_slot(None, pointer, {"a": a, "b": b})
    if () in (a, b):
        assert {"a": a, "b": b}[name] == ()
    elif pointer is not None:
        assert name != pointer


def test_a_leaf_that_never_was_in_use_keeps_its_slot_for_the_same_token():
    assert spare_slot(None, None, {"a": None, "b": NEW}) == "b"
    assert spare_slot(None, None, {"a": NEW, "b": None}) == "a"


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=800))
def test_a_slot_file_gives_back_what_went_in(key, leaf):
    assert unpack_identity(pack_identity(key, leaf)) == (key, leaf)


BLOB = pack_identity(b"k" * 121, b"c" * 400)


@pytest.mark.parametrize("length", range(len(BLOB)))
def test_a_slot_file_cut_anywhere_is_absent(length):
    assert unpack_identity(BLOB[:length]) is None


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
def test_a_slot_file_with_any_byte_changed_is_absent(at, flip):
    damaged = bytearray(BLOB)
    damaged[at] ^= flip
    assert unpack_identity(bytes(damaged)) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_absent_rather_than_an_error(blob):
    assert unpack_identity(blob) is None


def test_a_slot_file_without_a_key_is_absent():
    assert unpack_identity(pack_identity(b"")) is None
