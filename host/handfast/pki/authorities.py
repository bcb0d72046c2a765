"""The certificate authorities: a root, and below it device, factory, server and admin."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from handfast.errors import EnvironmentProblem, Refused, UsageError
from handfast.files import sync_folder, write_atomically
from handfast.pki.keystore import AuthorityKey, load_key, save_key
from handfast.pki.names import validate_trust_domain
from handfast.pki.profiles import (
    AUTHORITY_NAMES,
    CA_BACKDATE,
    ISSUING,
    ROOT,
    AuthorityProfile,
    ca_key_usage,
)
from handfast.pki.succession import settle
from handfast.state import CERTIFICATE_FILE, CERTIFICATE_PEM_FILE, KEY_FILE, StateDir

SERVER_KEY_BITS = (2048, 3072)

_SCHEMA = 1
_EXPONENT = 65537

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign: its name (``root``, ``device``, ...), private key and certificate."""

    name: str
    key: AuthorityKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"Authority({self.name!r})"


@dataclass(frozen=True, slots=True)
class RootKeeping:
    """A folder away from the gateway for the root's key, and the passphrase that encrypts it."""

    folder: Path
    passphrase: bytes

    @property
    def key(self) -> Path:
        """The first root's key: encrypted PKCS#8, PEM, mode 0600."""
        return self.folder / "root-key.pem"

    def key_of(self, certificate: x509.Certificate) -> Path:
        """Return where the key of a root that took another's place is kept."""
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return self.folder / f"root-key-{hashlib.sha256(spki).hexdigest()[:16]}.pem"

    def __repr__(self) -> str:
        return f"RootKeeping({str(self.folder)!r})"


def create_authorities(
    state: StateDir,
    passphrase: bytes,
    *,
    root: RootKeeping | None = None,
    trust_domain: str = "handfast.local",
    progress: Progress | None = None,
    server_key_bits: int = 2048,
) -> None:
    """Make the root and the issuing CAs, all of them or none.

    They are built in a folder beside their own, which is renamed when it is complete.

    Args:
        state: whose ``ca`` folder must not exist yet.
        passphrase: encrypts every private key that stays in the state folder.
        root: where the root's key is kept instead; ``None`` keeps it with the others.
        trust_domain: stands in every device's SPIFFE URI.
        progress: told the name of each CA whose key is ready, from this thread.
        server_key_bits: 2048, or 3072 at more work for the boards (DESIGN §5).

    Raises:
        Refused: there are CAs already, or a root's key where this one is to be kept.
        UsageError: the trust domain, the key size or the root's folder is not allowed.
        EnvironmentProblem: the folder cannot be written.
    """
    validate_trust_domain(trust_domain)
    if root is not None:
        require_apart(state, root.folder)
    if server_key_bits not in SERVER_KEY_BITS:
        raise UsageError(f"the server CA's key has 2048 or 3072 bits, not {server_key_bits}")
    require_no_authorities(state)
    keys = _generate_keys(server_key_bits, progress or (lambda _: None))
    authorities = _certify(keys, datetime.now(UTC))
    state.create()
    try:
        with _staged(state) as staging, _kept_apart(root, authorities[0].key):
            for authority in authorities:
                folder = staging.ca / authority.name
                folder.mkdir(mode=0o700)
                here = authority.name != ROOT.name or root is None
                write_authority(folder, authority, passphrase if here else None)
            settings = {"schema": _SCHEMA, "trust_domain": trust_domain}
            write_atomically(staging.ca_settings, json.dumps(settings, indent=2).encode() + b"\n")
    except OSError as error:
        # Somebody else may have finished first: rename does not replace a folder that is not empty.
        require_no_authorities(state)
        raise EnvironmentProblem(
            f"cannot write the CAs into {error.filename or state.ca}: {error.strerror}"
        ) from error


def require_no_authorities(state: StateDir) -> None:
    """Make sure that ``state`` has no CAs yet.

    Raises:
        Refused: it has; they are never replaced.
        EnvironmentProblem: nobody can tell.
    """
    if _have_authorities(state):
        raise Refused(
            f"there are CAs in {state.ca} already, and every device trusts them: "
            "choose another folder with --dir, or move this one away"
        )


def require_apart(state: StateDir, folder: Path) -> None:
    """Make sure that the root's key may be kept in ``folder``.

    Raises:
        UsageError: it is in the state folder, which the gateway has.
    """
    if folder.resolve().is_relative_to(state.root.resolve()):
        raise UsageError(f"{folder} is in the gateway's folder: keep the root's key outside of it")


def load_authority(state: StateDir, name: str, passphrase: bytes) -> Authority:
    """Load a CA with its private key.

    Raises:
        EnvironmentProblem: it is missing or damaged, or its key file is open to others.
        Refused: the passphrase is wrong.
    """
    _require_authorities(state)
    settle(state, name)
    return load_authority_from(state.ca / name, name, passphrase)


def load_authority_from(folder: Path, name: str, passphrase: bytes) -> Authority:
    """Load a CA that lies in a folder of another name than its own; errors as above."""
    certificate = load_certificate(folder / CERTIFICATE_FILE)
    path = folder / KEY_FILE
    key = load_key(path, passphrase)
    if key.public_key() != certificate.public_key():
        raise EnvironmentProblem(
            f"{path} is not the key of {folder / CERTIFICATE_FILE}: restore both from one copy"
        )
    return Authority(name, key, certificate)


def load_certificates(state: StateDir) -> dict[str, x509.Certificate]:
    """Return the certificates of all CAs by name; needs no passphrase.

    Raises:
        EnvironmentProblem: there are none, or one is damaged.
    """
    return {name: _load_certificate(state, name) for name in AUTHORITY_NAMES}


def load_trust_domain(state: StateDir) -> str:
    """Return the trust domain that the CAs were made for.

    Raises:
        EnvironmentProblem: there are no CAs, or their settings are damaged.
    """
    _require_authorities(state)
    path = state.ca_settings
    try:
        settings = json.loads(path.read_text())
        if settings["schema"] != _SCHEMA:
            raise EnvironmentProblem(
                f"{path} has schema {settings['schema']}, this version of handfast knows {_SCHEMA}"
            )
        return validate_trust_domain(settings["trust_domain"])
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise EnvironmentProblem(f"{path} is damaged: restore it from a copy") from error


# Making


def _generate_keys(server_key_bits: int, progress: Progress) -> dict[str, AuthorityKey]:
    # OpenSSL searches for primes without the GIL, so the slow ones share the cores.
    profiles = (ROOT, *ISSUING)
    keys = {}
    with ThreadPoolExecutor(len(profiles)) as pool:
        jobs = {pool.submit(generate_key, p, server_key_bits): p.name for p in profiles}
        for job in as_completed(jobs):
            keys[jobs[job]] = job.result()
            progress(jobs[job])
    return keys


def generate_key(profile: AuthorityProfile, server_key_bits: int = 2048) -> AuthorityKey:
    """Make a CA's private key; RSA-4096 takes a second or several."""
    if profile.key == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    bits = 4096 if profile.is_root else server_key_bits
    return rsa.generate_private_key(_EXPONENT, bits)


def _certify(keys: dict[str, AuthorityKey], now: datetime) -> list[Authority]:
    root_key = keys[ROOT.name]
    root = Authority(ROOT.name, root_key, certify_authority(ROOT, root_key, None, now))
    below = [
        Authority(p.name, keys[p.name], certify_authority(p, keys[p.name], root, now))
        for p in ISSUING
    ]
    return [root, *below]


def certify_authority(
    profile: AuthorityProfile,
    key: AuthorityKey,
    issuer: Authority | None,
    now: datetime,
    *,
    until: datetime | None = None,
) -> x509.Certificate:
    """Issue a CA's certificate, by the root ``issuer`` or, without one, by itself.

    It does not outlive its issuer, nor ``until``.
    """
    issuer_key = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, profile.common_name)])
    not_before = now.replace(microsecond=0) - CA_BACKDATE
    not_after = not_before + profile.lifetime
    if issuer is not None:
        not_after = min(not_after, until or not_after, issuer.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=1 if profile.is_root else 0), critical=True
        )
        .add_extension(ca_key_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if profile.may_issue:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.may_issue), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@contextmanager
def _staged(state: StateDir) -> Iterator[StateDir]:
    """Yield a state folder to fill beside the real one; its CAs move over when all went well."""
    staging = StateDir(Path(tempfile.mkdtemp(prefix=".ca-", dir=state.root)))
    try:
        staging.ca.mkdir(mode=0o700)
        yield staging
        staging.ca.rename(state.ca)
        # Devices will trust these CAs: a power failure must not take them back.
        sync_folder(state.root)
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)


@contextmanager
def _kept_apart(keeping: RootKeeping | None, key: AuthorityKey) -> Iterator[None]:
    """Write the root's key to its own folder; take it back if the rest is not made."""
    if keeping is None:
        yield
        return
    keeping.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if keeping.key.exists():
        raise Refused(f"{keeping.key} is the key of a root already: choose another folder")
    save_key(keeping.key, key, keeping.passphrase)
    try:
        yield
    except BaseException:
        keeping.key.unlink(missing_ok=True)
        raise


def write_authority(folder: Path, authority: Authority, passphrase: bytes | None) -> None:
    """Write a CA's certificate into its folder, and its key unless that is kept elsewhere.

    Raises:
        OSError: not all of it was written.
    """
    certificate = authority.certificate
    write_atomically(folder / CERTIFICATE_FILE, certificate.public_bytes(Encoding.DER))
    write_atomically(folder / CERTIFICATE_PEM_FILE, certificate.public_bytes(Encoding.PEM))
    if passphrase is not None:
        save_key(folder / KEY_FILE, authority.key, passphrase)


# Loading


def _have_authorities(state: StateDir) -> bool:
    try:
        return state.ca.exists()
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot look into {state.root}: {error.strerror}; run this as its owner, "
            "or choose another folder with --dir"
        ) from error


def _require_authorities(state: StateDir) -> None:
    if not _have_authorities(state):
        raise EnvironmentProblem(
            f"there are no CAs in {state.root}: run handfast ca init, "
            "or name their folder with --dir"
        )


def _load_certificate(state: StateDir, name: str) -> x509.Certificate:
    _require_authorities(state)
    settle(state, name)
    return load_certificate(state.ca_certificate(name))


def load_certificate(path: Path) -> x509.Certificate:
    """Read a CA's certificate (DER).

    Raises:
        EnvironmentProblem: it is missing or damaged.
    """
    try:
        return x509.load_der_x509_certificate(path.read_bytes())
    except (OSError, ValueError, x509.InvalidVersion) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a certificate"
        raise EnvironmentProblem(
            f"cannot read the certificate {path}: {reason}; restore it from a copy"
        ) from error
