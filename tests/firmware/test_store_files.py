"""The store's files on a host folder: replaced whole, damaged ones absent, secrets removed."""

import errno
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from device_pki import NOW, Plan
from mtls import custody, rollover
from mtls import store as library_store
from mtls.custody import pack_identity
from mtls.errors import ConfigError, FlashFull, SecureElementError, StoreDamaged
from mtls.provision import install
from mtls.store import Identity, Store


class Os:
    """The interpreter's `os`, but for what a test gives."""

    def __init__(self, real, **given):
        self.real = real
        self.__dict__.update(given)

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "anchor").mkdir()
    return Store(str(tmp_path))


def test_an_identity_comes_back_as_it_was_written(store):
    store.write_identity("a", b"key")
    assert store.identity("a").cert_der == b""
    store.write_identity("a", b"key", b"leaf")
    identity = store.identity("a")
    assert (identity.name, identity.key_der, identity.cert_der) == ("a", b"key", b"leaf")
    assert store.identity("b") is None


def test_an_identity_never_prints_its_key():
    assert "73656372" not in repr(Identity("a", b"secr", b"leaf")) + str(Identity("a", b"secr"))
    assert "secr" not in repr(Identity("a", b"secr", b"leaf"))


def test_the_pointer_names_a_slot_or_nothing(store, tmp_path):
    assert store.current() is None
    store.set_current("b")
    assert (tmp_path / "current").read_bytes() == b"b\n"
    assert store.current() == "b"
    for damaged in (b"", b"b", b"c\n", b"a\nb", b"\xff\xff"):
        (tmp_path / "current").write_bytes(damaged)
        assert store.current() is None


def test_a_damaged_slot_is_absent_in_the_facts(store, tmp_path):
    (tmp_path / "slot-a").write_bytes(pack_identity(b"k")[:-1])
    (tmp_path / "slot-b").write_bytes(pack_identity(b"k"))
    assert store.slots() == {"a": None, "b": ()}


def test_a_leaf_that_does_not_parse_is_a_damaged_slot(store):
    store.write_identity("a", b"key", b"\x30\x03abc")
    assert store.slots()["a"] is None


REFERENCE = b"\x82\x01\x02"  # to the key in slot 2 of a chip


def test_a_chip_that_does_not_answer_says_nothing_of_its_slots(store):
    def silent(_slot):
        raise SecureElementError("no answer")

    store._chip = SimpleNamespace(point=silent)
    store.write_identity("a", REFERENCE)
    assert store.slots() == {"a": (), "b": None}
    _, leaf_der = pair()
    store.write_identity("a", REFERENCE, leaf_der)
    with pytest.raises(SecureElementError):
        store.slots()


def test_a_leaf_for_another_key_than_the_chips_is_a_damaged_slot(store):
    store._chip = SimpleNamespace(point=lambda _slot: b"\x04" + bytes(64))
    _, leaf_der = pair()
    store.write_identity("a", REFERENCE, leaf_der)
    assert store.slots()["a"] is None


def test_a_reference_on_a_board_that_knows_no_chip_says_what_is_missing(store, tmp_path):
    config = {"schema": 1, "device_id": "d", "api_url": "https://g", "enrol_url": "https://g"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "trust_domain": "t"}))
    with pytest.raises(ConfigError, match="secure_element"):
        store.write_identity("a", REFERENCE).key()


def pair():
    """Return (key DER, leaf DER): a board's own, as they lie in a slot."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = Plan(subject="d", key=key, issuer="device", issuer_key=key).make()
    form = (Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return key.private_bytes(*form), leaf.public_bytes(Encoding.DER)


def test_a_leaf_counts_only_beside_its_own_key(store):
    (key, leaf), (other, _) = pair(), pair()
    store.write_identity("a", key, leaf)
    store.write_identity("b", other, leaf)
    life = (NOW - timedelta(hours=1), NOW + timedelta(days=5))
    assert store.slots() == {"a": tuple(int(t.timestamp()) for t in life), "b": None}
    # What a handshake asks, of the slots alone: without a parser.
    assert [store.identity(name).paired() for name in ("a", "b")] == [True, False]


def test_every_certificate_of_ours_says_since_when_it_was_issued(store):
    issued = int((NOW - timedelta(hours=1)).timestamp())
    assert store.issued() == []
    store.write_identity("b", *pair())
    key, leaf = pair()
    install(store, key, leaf)
    assert store.issued() == [issued, issued]
    install(store, key, b"\x30\x03abc")
    assert store.issued() == [issued]
    install(store, key)
    assert store.issued() == [issued]


def test_the_token_is_forgotten_and_the_rest_stays(store, tmp_path):
    secrets = {"token": "t0ken", "wifi": {"home": "pass"}}
    (tmp_path / "secret.json").write_text(json.dumps(secrets))
    assert store.token() == "t0ken"
    store.forget_token()
    assert store.token() is None
    assert store.wifi_password("home") == "pass"
    assert b"t0ken" not in b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.is_file())


def test_forgetting_a_token_that_is_not_there_writes_nothing(store, tmp_path):
    store.forget_token()
    assert not (tmp_path / "secret.json").exists()


def test_only_server_cas_are_anchors(store, tmp_path):
    for name in ("tls-0.der", "root-0.der", "tls-1.der", "tls-2.der.new", "notes.txt"):
        (tmp_path / "anchor" / name).write_bytes(name.encode())
    assert store.anchors() == [b"tls-0.der", b"tls-1.der"]
    assert store.roots() == [b"root-0.der"]


def test_a_board_without_anchor_or_configuration_says_provision(store):
    for ask in (store.anchors, store.config):
        with pytest.raises(ConfigError, match="provision"):
            ask()


def test_the_idevid_is_read_only_but_for_its_own_certificate(store):
    install(store, b"key")
    install(store, b"key", b"leaf")
    for name in ("idevid", "c"):
        with pytest.raises(ConfigError, match="only the slots"):
            store.write_identity(name, b"other", b"leaf")
    with pytest.raises(ConfigError, match="read-only"):
        install(store, b"other", b"leaf")
    kept = store.identity("idevid")
    assert (kept.key_der, kept.cert_der) == (b"key", b"leaf")


def test_a_damaged_idevid_is_absent_and_may_be_made_anew(store, tmp_path):
    (tmp_path / "idevid").write_bytes(pack_identity(b"key", b"leaf")[:-1])
    assert store.identity("idevid") is None
    install(store, b"other")


def test_a_decommissioned_store_holds_nothing_and_says_what_to_do(tmp_path):
    store = Store(str(tmp_path / "mtls"))
    (tmp_path / "mtls" / "anchor").mkdir(parents=True)
    (tmp_path / "mtls" / "anchor" / "tls-0.der").write_bytes(b"anchor")
    install(store, b"key", b"leaf")
    store.write_identity("a", b"key", b"leaf")
    store.drbg()
    store.decommission()
    assert list(tmp_path.iterdir()) == []
    assert [store.identity(name) for name in ("a", "b", "idevid")] == [None] * 3
    for ask in (store.config, store.anchors):
        with pytest.raises(ConfigError, match="provision"):
            ask()
    with pytest.raises(StoreDamaged):
        store.write_identity("a", b"key")


def test_a_decommissioning_that_was_cut_short_is_finished_by_the_next_store(tmp_path):
    root = tmp_path / "mtls"
    root.mkdir()
    (root / "slot-a").write_bytes(pack_identity(b"key", b"leaf"))
    (tmp_path / "mtls.erase").touch()
    assert Store(str(root)).identity("a") is None
    assert not root.exists()
    assert not (tmp_path / "mtls.erase").exists()


def test_a_full_flash_changes_nothing_and_leaves_nothing_behind(store, tmp_path, monkeypatch):
    store.write_identity("a", b"key", b"leaf")

    def full(_from, _to):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(library_store, "os", Os(library_store.os, rename=full))
    with pytest.raises(FlashFull):
        store.write_identity("a", b"other")
    assert store.identity("a").key_der == b"key"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["slot-a"]


def test_what_a_power_cut_left_half_written_is_swept(store, tmp_path):
    (tmp_path / "slot-b.new").write_bytes(b"half a key")
    store.sweep()
    assert not (tmp_path / "slot-b.new").exists()


def test_the_seed_is_replaced_before_anything_is_drawn(store, tmp_path):
    store.put_seed(bytes(32))
    first = (tmp_path / "seed").read_bytes()
    assert first != bytes(32)
    drawn = store.drbg().generate(32)
    second = (tmp_path / "seed").read_bytes()
    assert second not in (first, drawn)
    assert store.drbg() == store.drbg(), "one generator"
    assert Store(str(tmp_path)).drbg().generate(32) != drawn


def test_a_damaged_floor_is_no_floor(store, tmp_path):
    store.write_floor(1_800_000_000)
    assert store.read_floor() == 1_800_000_000
    (tmp_path / "floor").write_bytes(b"\xffx")
    assert store.read_floor() == 0


def test_a_file_that_cannot_be_read_is_damage_not_absence(store, monkeypatch):
    def unreadable(_path, _mode):
        raise OSError(errno.EIO, "flash")

    monkeypatch.setattr(library_store, "open", unreadable, raising=False)
    with pytest.raises(StoreDamaged):
        store.has_seed()


def test_a_file_that_the_flash_does_not_let_go_of_is_told(store, tmp_path, monkeypatch):
    (tmp_path / "anchor").mkdir(exist_ok=True)
    (tmp_path / "anchor" / "tls-9.der").write_bytes(b"anchor")
    (tmp_path / "x.new").write_bytes(b"")

    def remove(_path):
        raise OSError(errno.EIO, "flash")

    monkeypatch.setattr(custody, "os", Os(custody.os, remove=remove))
    for call in (store.sweep, lambda: rollover._drop(store, "tls", b"anchor")):
        with pytest.raises(StoreDamaged, match="cannot remove"):
            call()
