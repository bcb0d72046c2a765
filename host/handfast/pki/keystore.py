"""Private keys in files, encrypted with a passphrase, and where the passphrase comes from."""

from __future__ import annotations

import base64
import os
import stat
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from handfast.errors import EnvironmentProblem, Refused, UsageError
from handfast.files import write_secret
from handfast.pki import der

AuthorityKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# What OpenSSL's own tools can read from a terminal or a file.
_LONGEST_BYTES = 1023

# An RSA-4096 key takes a third of it.
_LONGEST_FILE = 10_240

_BEGIN = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
_END = "-----END ENCRYPTED PRIVATE KEY-----"
_PBES2 = "1.2.840.113549.1.5.13"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_AES_256_CBC = "2.16.840.1.101.3.4.1.42"
# 16 MB and some 40 ms a guess; as `openssl pkcs8 -scrypt` has it.
_SCRYPT_COST = {"n": 16384, "r": 8, "p": 1}


@dataclass(frozen=True, slots=True)
class Lock:
    """What a passphrase is of, and how it is given: a variable, or the same with ``_FILE``."""

    of: str
    variable: str
    option: str


CA_KEYS = Lock("the CA keys", "HANDFAST_PASSPHRASE", "--passphrase-file")
ROOT_KEY = Lock("the root's key", "HANDFAST_ROOT_PASSPHRASE", "--root-passphrase-file")


def passphrase(
    prompt: str, *, file: Path | None = None, confirm: bool = False, lock: Lock = CA_KEYS
) -> bytes:
    """Return a passphrase.

    The first of these that is set counts: ``file``, the lock's variable
    (``$HANDFAST_PASSPHRASE``), its file variable (``$HANDFAST_PASSPHRASE_FILE``), a question on
    the terminal.

    Args:
        prompt: the question.
        file: whose first line is the passphrase.
        confirm: ask twice, for a passphrase that is about to be set.
        lock: which passphrase.

    Raises:
        UsageError: there is none, it is empty or too long, or nobody is there to ask.
    """
    if file is not None:
        return _checked(_first_line(file), f"the file {file}")
    variable, file_variable = lock.variable, f"{lock.variable}_FILE"
    if variable in os.environ:
        return _checked(os.environb[variable.encode()], f"${variable}")
    if file_variable in os.environ:
        named = Path(os.environ[file_variable])
        return _checked(_first_line(named), f"the file {named} (${file_variable})")
    if not sys.stdin.isatty():
        raise UsageError(
            f"no passphrase for {lock.of}: set ${variable} or ${file_variable}, "
            f"or give {lock.option}"
        )
    answer: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return _checked(answer.encode(), "the answer")


def save_key(path: Path, key: AuthorityKey, passphrase: bytes) -> None:
    """Write ``key`` encrypted (PKCS#8, PEM), readable by the owner only.

    Raises:
        OSError: nothing was written.
    """
    plain = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_secret(path, _pem(_encrypt(plain, passphrase)))


def load_key(path: Path, passphrase: bytes) -> AuthorityKey:
    """Read a key that :func:`save_key` wrote.

    Raises:
        EnvironmentProblem: the file is missing, unreadable, damaged or not private.
        Refused: the passphrase is wrong.
    """
    try:
        # One open file: its mode is the mode of what is read, whatever the path names by then.
        with path.open("rb") as file:
            others = os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            content = file.read(_LONGEST_FILE)
    except OSError as error:
        raise EnvironmentProblem(f"cannot read the private key {path}: {error.strerror}") from error
    if others:
        raise EnvironmentProblem(
            f"the private key {path} can be read or changed by others: run chmod 600 {path}, "
            "and make new CAs if somebody may have read it"
        )
    if not _is_whole(content):
        raise _damaged(path)
    try:
        key = serialization.load_pem_private_key(content, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        # Not only on "Incorrect password": one wrong passphrase in 256 or so leaves a padding that
        # is right by chance, and then it is the key inside that cannot be read.
        raise Refused(
            f"wrong passphrase for {path}, or the file was altered: check $HANDFAST_PASSPHRASE or "
            "the passphrase file"
        ) from error
    if not isinstance(key, AuthorityKey):
        raise _damaged(path)
    return key


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    """Return an EncryptedPrivateKeyInfo (RFC 5958 §3, RFC 8018 §6.2, RFC 7914 §7.1).

    ``cryptography`` itself writes PBKDF2 with 2048 rounds only, which a guesser has for nothing.
    """
    salt, start = os.urandom(16), os.urandom(16)
    key = Scrypt(salt=salt, length=32, **_SCRYPT_COST).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(start)).encryptor()
    secret = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    cost = map(der.integer, _SCRYPT_COST.values())
    derivation = der.sequence(der.oid(_SCRYPT), der.sequence(der.octets(salt), *cost))
    cipher = der.sequence(der.oid(_AES_256_CBC), der.octets(start))
    algorithm = der.sequence(der.oid(_PBES2), der.sequence(derivation, cipher))
    return der.sequence(algorithm, der.octets(secret))


def _pem(content: bytes) -> bytes:
    text = textwrap.fill(base64.b64encode(content).decode(), 64)
    return f"{_BEGIN}\n{text}\n{_END}\n".encode()


def _is_whole(content: bytes) -> bool:
    """Whether ``content`` is one encrypted key from its first byte to its last, undecrypted."""
    text = content.partition(_BEGIN.encode())[2].partition(_END.encode())[0]
    try:
        reader = der.Reader(base64.b64decode(text))
        reader.content(der.SEQUENCE)
        reader.finish()
    except ValueError:
        return False
    return True


def _damaged(path: Path) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{path} is not an encrypted private key of a CA, or it is damaged: restore it from a copy"
    )


def _first_line(file: Path) -> bytes:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read the passphrase file {file}: {error.strerror}") from error
    return lines[0] if lines else b""


def _checked(secret: bytes, source: str) -> bytes:
    if not secret:
        raise UsageError(f"the passphrase from {source} is empty: choose one of some length")
    if len(secret) > _LONGEST_BYTES:
        raise UsageError(f"the passphrase from {source} is longer than {_LONGEST_BYTES} bytes")
    return secret
