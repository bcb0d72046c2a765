from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from pki_kit import assert_extensions

from handfast.errors import EnvironmentProblem, HandfastError, Refused, UsageError
from handfast.pki import authorities as module
from handfast.pki.authorities import (
    Authority,
    RootKeeping,
    create_authorities,
    load_authority,
    load_certificates,
    load_trust_domain,
    require_no_authorities,
)
from handfast.pki.keystore import load_key
from handfast.state import StateDir
from support_pki import PASSPHRASE, TRUST_DOMAIN, make_state

_CLIENTS = (Usage.CLIENT_AUTH, Usage.OCSP_SIGNING)
_SERVERS = (Usage.SERVER_AUTH, Usage.TIME_STAMPING, Usage.OCSP_SIGNING)


@pytest.fixture
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small keys, for tests of files and folders only."""
    monkeypatch.setattr(module, "generate_key", lambda *_: ec.generate_private_key(ec.SECP256R1()))


def test_root_is_rsa_4096_signs_itself_and_lives_ten_years(
    authorities: dict[str, Authority],
) -> None:
    root = authorities["root"].certificate
    assert isinstance(key := root.public_key(), rsa.RSAPublicKey)
    assert key.key_size == 4096
    root.verify_directly_issued_by(root)
    assert root.signature_algorithm_oid.dotted_string == "1.2.840.113549.1.1.11"
    life = root.not_valid_after_utc - root.not_valid_before_utc
    assert timedelta(days=3650) <= life <= timedelta(days=3653)
    assert_extensions(root, issuer=root, ca=True, path_length=1)


@pytest.mark.parametrize(
    ("name", "usages"),
    [("device", _CLIENTS), ("factory", _CLIENTS), ("server", _SERVERS), ("admin", _CLIENTS)],
)
def test_issuing_ca_is_signed_by_the_root_for_its_own_purposes_only(
    authorities: dict[str, Authority], name: str, usages: tuple[object, ...]
) -> None:
    root, issuing = authorities["root"].certificate, authorities[name].certificate
    issuing.verify_directly_issued_by(root)
    assert_extensions(issuing, issuer=root, ca=True, path_length=0, usages=usages)  # type: ignore[arg-type]
    assert issuing.not_valid_after_utc - issuing.not_valid_before_utc <= timedelta(days=5 * 366)
    assert issuing.not_valid_after_utc < root.not_valid_after_utc
    key = issuing.public_key()
    if name == "server":
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 2048
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)


def test_serial_numbers_and_subjects_differ(authorities: dict[str, Authority]) -> None:
    certificates = [authority.certificate for authority in authorities.values()]
    assert len({c.serial_number for c in certificates}) == len(certificates)
    assert all(c.serial_number.bit_length() > 64 for c in certificates)
    assert len({c.subject for c in certificates}) == len(certificates)


def test_showing_an_authority_does_not_show_its_key(authorities: dict[str, Authority]) -> None:
    assert repr(authorities["device"]) == "Authority('device')"


def test_folders_are_the_owners_alone_and_both_encodings_agree(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    assert load_trust_domain(state) == TRUST_DOMAIN
    assert state.root.stat().st_mode & 0o777 == 0o700
    assert state.ca.stat().st_mode & 0o777 == 0o700
    for name, certificate in load_certificates(state).items():
        assert state.ca_key(name).stat().st_mode & 0o777 == 0o600
        assert state.ca_certificate_pem(name).read_bytes() == certificate.public_bytes(Encoding.PEM)


@pytest.mark.usefixtures("quick_keys")
def test_the_roots_key_may_be_kept_elsewhere_under_a_passphrase_of_its_own(tmp_path: Path) -> None:
    state, kept = StateDir(tmp_path / "state"), RootKeeping(tmp_path / "usb" / "root", b"other")
    create_authorities(state, PASSPHRASE, root=kept)
    assert not state.ca_key("root").exists()
    key = load_key(kept.key, b"other")
    assert key.public_key() == load_certificates(state)["root"].public_key()
    assert kept.key.stat().st_mode & 0o777 == 0o600
    assert load_authority(state, "device", PASSPHRASE).name == "device"
    with pytest.raises(EnvironmentProblem, match="No such file"):
        load_authority(state, "root", PASSPHRASE)


@pytest.mark.usefixtures("quick_keys")
def test_a_roots_key_that_is_there_already_is_never_replaced(tmp_path: Path) -> None:
    kept = RootKeeping(tmp_path / "usb", b"other")
    create_authorities(StateDir(tmp_path / "one"), PASSPHRASE, root=kept)
    before = kept.key.read_bytes()
    with pytest.raises(Refused, match="already"):
        create_authorities(StateDir(tmp_path / "two"), PASSPHRASE, root=kept)
    assert kept.key.read_bytes() == before
    assert not (tmp_path / "two" / "ca").exists()


def test_the_roots_key_is_not_kept_apart_inside_the_state_folder(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    with pytest.raises(UsageError, match="outside"):
        create_authorities(state, PASSPHRASE, root=RootKeeping(state.root / "root", b"other"))
    assert not state.root.exists()


@pytest.mark.usefixtures("quick_keys")
def test_creation_that_fails_takes_the_roots_key_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_authority", full)
    kept = RootKeeping(tmp_path / "usb", b"other")
    with pytest.raises(EnvironmentProblem):
        create_authorities(StateDir(tmp_path / "state"), PASSPHRASE, root=kept)
    assert list(kept.folder.iterdir()) == []


def test_existing_authorities_are_never_replaced(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    before = state.ca_key("root").read_bytes()
    with pytest.raises(Refused, match="already"):
        create_authorities(state, b"another")
    assert state.ca_key("root").read_bytes() == before


@pytest.mark.usefixtures("quick_keys")
def test_of_two_that_create_at_once_one_wins_whole(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")

    def rival(name: str) -> None:
        if name == "admin" and not state.ca.exists():
            create_authorities(state, b"first", trust_domain="first.test")

    with pytest.raises(Refused, match="already"):
        create_authorities(state, b"second", trust_domain="second.test", progress=rival)
    assert load_trust_domain(state) == "first.test"
    assert load_authority(state, "device", b"first").name == "device"
    assert [entry.name for entry in state.root.iterdir()] == ["ca"]


@pytest.mark.usefixtures("quick_keys")
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_creation_that_is_cut_short_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException] | BaseException,
) -> None:
    state = StateDir(tmp_path / "state")
    real: Callable[..., None] = module.save_key

    def cut_at_the_third(path: Path, *rest: object) -> None:
        if path.parent.name == "factory":
            raise stop
        real(path, *rest)

    monkeypatch.setattr(module, "save_key", cut_at_the_third)
    with pytest.raises((KeyboardInterrupt, EnvironmentProblem)):
        create_authorities(state, PASSPHRASE)
    assert list(state.root.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"trust_domain": "Not a domain"}, {"server_key_bits": 1024}], ids=str
)
def test_bad_settings_are_refused_before_anything_is_made(
    tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        create_authorities(StateDir(tmp_path / "state"), PASSPHRASE, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "state").exists()


def test_without_authorities_the_message_says_how_to_make_them(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    for load in (
        lambda: load_certificates(state),
        lambda: load_trust_domain(state),
        lambda: load_authority(state, "device", PASSPHRASE),
    ):
        with pytest.raises(EnvironmentProblem, match="handfast ca init"):
            load()


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    state = StateDir(tmp_path / ("x" * 300))  # too long a name: refused to root as well
    for look in (
        lambda: require_no_authorities(state),
        lambda: load_certificates(state),
        lambda: load_trust_domain(state),
    ):
        with pytest.raises(EnvironmentProblem, match=r"xxx.*--dir"):
            look()


def _certificate_of_another(state: StateDir) -> None:
    shutil.copy(state.ca_certificate("admin"), state.ca_certificate("device"))


def _half_a_certificate(state: StateDir) -> None:
    path = state.ca_certificate("device")
    path.write_bytes(path.read_bytes()[:100])


def _no_certificate(state: StateDir) -> None:
    state.ca_certificate("device").unlink()


@pytest.mark.parametrize("damage", [_certificate_of_another, _half_a_certificate, _no_certificate])
def test_damaged_authority_is_named(tmp_path: Path, damage: Callable[[StateDir], None]) -> None:
    state = make_state(tmp_path)
    damage(state)
    with pytest.raises(EnvironmentProblem, match=r"device.*restore"):
        load_authority(state, "device", PASSPHRASE)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "trust_domain": "A B"}']
)
def test_damaged_settings_are_named(tmp_path: Path, content: str) -> None:
    state = make_state(tmp_path)
    state.ca_settings.write_text(content)
    with pytest.raises(HandfastError, match=r"settings\.json") as caught:
        load_trust_domain(state)
    assert caught.value.exit_code == 3
