from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pki_kit import new_key

from handfast.errors import EnvironmentProblem, Refused, UsageError
from handfast.pki import der, keystore
from handfast.pki.keystore import load_key, passphrase, save_key

_SECRET = b"horse battery staple"


@pytest.fixture(autouse=True)
def _no_passphrase_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDFAST_PASSPHRASE", raising=False)
    monkeypatch.delenv("HANDFAST_PASSPHRASE_FILE", raising=False)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    save_key(path, new_key(), _SECRET)
    return path


@pytest.mark.parametrize("make", [new_key, lambda: rsa.generate_private_key(65537, 2048)])
def test_a_saved_key_loads_again(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    key = make()
    save_key(tmp_path / "key.pem", key, _SECRET)
    assert load_key(tmp_path / "key.pem", _SECRET).private_numbers() == key.private_numbers()


def test_key_file_is_encrypted_and_the_owners_alone(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert key_file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def test_wrong_passphrase_is_refused_without_showing_it(key_file: Path) -> None:
    with pytest.raises(Refused, match="wrong passphrase") as caught:
        load_key(key_file, b"some other secret")
    assert "some other secret" not in str(caught.value)


def test_every_wrong_passphrase_is_refused_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With one wrong passphrase in some 256, what comes out ends like a padded text by chance.
    monkeypatch.setitem(keystore._SCRYPT_COST, "n", 2)
    path = tmp_path / "key.pem"
    save_key(path, new_key(), _SECRET)
    for number in range(2000):
        with pytest.raises(Refused, match="wrong passphrase"):
            load_key(path, b"wrong %d" % number)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_key_file_open_to_others_is_not_used(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(EnvironmentProblem, match="chmod 600"):
        load_key(key_file, _SECRET)


@pytest.mark.parametrize("keep", [0, 20, 120, -40, -100])
def test_damaged_key_file_is_named(key_file: Path, keep: int) -> None:
    key_file.write_bytes(key_file.read_bytes()[:keep])
    with pytest.raises(EnvironmentProblem, match="damaged") as caught:
        load_key(key_file, _SECRET)
    assert str(key_file) in str(caught.value)


@pytest.mark.parametrize("known", ["1.3.6.1.4.1.11591.4.11", "2.16.840.1.101.3.4.1.42"])
def test_key_file_of_an_unknown_encryption_is_named(key_file: Path, known: str) -> None:
    lines = key_file.read_text().splitlines()
    content = base64.b64decode("".join(lines[1:-1]))
    altered = content.replace(der.oid(known), der.oid(known[:-1] + "9"))
    assert altered != content
    key_file.write_text(f"{lines[0]}\n{base64.b64encode(altered).decode()}\n{lines[-1]}\n")
    with pytest.raises(Refused, match="altered"):
        load_key(key_file, _SECRET)


def test_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"none\.pem"):
        load_key(tmp_path / "none.pem", _SECRET)


def test_passphrase_sources_are_asked_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, named = tmp_path / "option", tmp_path / "named"
    option.write_text("from the option\nsecond line\n")
    named.write_text("from the named file")
    monkeypatch.setenv("HANDFAST_PASSPHRASE_FILE", str(named))
    assert passphrase("?") == b"from the named file"
    monkeypatch.setenv("HANDFAST_PASSPHRASE", "from the environment")
    assert passphrase("?") == b"from the environment"
    assert passphrase("?", file=option) == b"from the option"


@pytest.mark.parametrize("content", ["", "\n", "x" * 1024])
def test_unusable_passphrase_is_a_usage_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(UsageError, match="passphrase"):
        passphrase("?", file=tmp_path / "file")


def test_without_any_source_the_message_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(UsageError, match=r"HANDFAST_PASSPHRASE.*--passphrase-file"):
            passphrase("?")
