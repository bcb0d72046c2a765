"""Trust anchors that follow each other: a new ``server`` CA, a new root, what is published when.

A ``server`` CA is first published beside its predecessor, and takes its place when the boards have
it. A root takes its predecessor's place at once, as the one that signs CAs; both are published,
with a certificate each way between them (RFC 4210 section 4.4), until the boards have the new one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.errors import EnvironmentProblem, Refused
from handfast.files import sync_folder, write_atomically
from handfast.pki.authorities import (
    Authority,
    RootKeeping,
    certify_authority,
    generate_key,
    load_authority,
    load_authority_from,
    load_certificate,
    load_certificates,
    write_authority,
)
from handfast.pki.keystore import load_key, save_key
from handfast.pki.profiles import ISSUING, ROOT
from handfast.pki.succession import exclusive, staged, succeed
from handfast.state import CERTIFICATE_FILE, StateDir

_SERVER = next(profile for profile in ISSUING if profile.name == "server")


@dataclass(frozen=True, slots=True)
class Published:
    """The CA certificates that anyone may have.

    Attributes:
        server: the ``server`` CA whose leaves the gateway presents.
        next_server: its successor, for boards to take beforehand.
        root: the one that signs CAs.
        old_root: the one before it, while there are boards without the new one.
        new_with_old: the root's key, certified by the old root; while that is published.
        old_with_new: the former root's key, certified by the root, since it signed CAs in use.
        below: the other issuing CAs.
    """

    server: x509.Certificate
    next_server: x509.Certificate | None
    root: x509.Certificate
    old_root: x509.Certificate | None
    new_with_old: x509.Certificate | None
    old_with_new: x509.Certificate | None
    below: tuple[x509.Certificate, ...]

    @property
    def server_cas(self) -> list[x509.Certificate]:
        """What boards are to hold as TLS anchors, the one in use first."""
        return _present(self.server, self.next_server)

    @property
    def roots(self) -> list[x509.Certificate]:
        """What boards are to hold as roots, the one that signs first."""
        return _present(self.root, self.old_root)

    @property
    def all(self) -> list[x509.Certificate]:
        """What EST's cacerts lists."""
        links = _present(self.new_with_old, self.old_with_new)
        return [*self.roots, *links, *self.server_cas, *self.below]

    @property
    def behind_server(self) -> list[x509.Certificate]:
        """What is sent behind a leaf of ``server``, for those who hold one root or the other."""
        link = self.new_with_old if issued_by(self.server, self.root) else self.old_with_new
        return _present(self.server, link)

    @property
    def old_root_is_needed(self) -> bool:
        """Whether a board must hold the old root to take one of the ``server`` CAs."""
        return not all(issued_by(ca, self.root) for ca in self.server_cas)


def _present(*certificates: x509.Certificate | None) -> list[x509.Certificate]:
    return [certificate for certificate in certificates if certificate is not None]


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether that key signed it: a root and its successor have one name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate's DER, as boards report it."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def load_published(state: StateDir) -> Published:
    """Read what is published now; needs no passphrase.

    Raises:
        EnvironmentProblem: there are no CAs, or a certificate is damaged.
    """
    certificates = load_certificates(state)

    def optional(path: Path) -> x509.Certificate | None:
        return load_certificate(path) if path.exists() else None

    old_root = optional(state.old_root / CERTIFICATE_FILE)
    return Published(
        server=certificates["server"],
        next_server=optional(state.next_server_ca / CERTIFICATE_FILE),
        root=certificates["root"],
        old_root=old_root,
        new_with_old=optional(state.new_with_old) if old_root else None,
        old_with_new=optional(state.old_with_new),
        below=(certificates["device"], certificates["factory"]),
    )


def load_root(state: StateDir, passphrase: bytes, keeping: RootKeeping | None) -> Authority:
    """Load the root with its key, from the state folder or from where it is kept.

    Raises:
        EnvironmentProblem: the key is not there, or not this root's.
        Refused: the passphrase is wrong.
    """
    if keeping is None:
        if not state.ca_key("root").exists():
            raise EnvironmentProblem(
                f"the root's key is not in {state.ca_key('root').parent}: "
                "name the folder that it is kept in with --root-dir"
            )
        return load_authority(state, "root", passphrase)
    certificate = load_certificates(state)["root"]
    path = keeping.key_of(certificate)
    if not path.exists():
        path = keeping.key
    key = load_key(path, keeping.passphrase)
    if key.public_key() != certificate.public_key():
        raise EnvironmentProblem(
            f"{path} is not the key of {state.ca_certificate('root')}: choose another --root-dir"
        )
    return Authority(ROOT.name, key, certificate)


def begin_server_rollover(
    state: StateDir, passphrase: bytes, *, root: RootKeeping | None = None
) -> x509.Certificate:
    """Make the next ``server`` CA and publish it; nothing is signed with it yet.

    Args:
        state: the gateway's folder.
        passphrase: of the CA keys; the new one is encrypted with it too.
        root: where the root's key is kept, if not in the state folder.

    Raises:
        Refused: a rollover is under way, or a passphrase is wrong.
        EnvironmentProblem: the root's key is not there, or the folder cannot be written.
    """
    with _moving(state):
        if state.next_server_ca.exists():
            raise Refused(
                "a server CA is being rolled over already: see `handfast ca rollover status`"
            )
        # The gateway has one passphrase for all: that of the CA in use must be this one.
        current = load_authority(state, "server", passphrase)
        issuer = load_root(state, passphrase, root)
        bits = current.key.key_size if isinstance(current.key, rsa.RSAPrivateKey) else 2048
        key = generate_key(_SERVER, bits)
        certificate = certify_authority(_SERVER, key, issuer, datetime.now(UTC))
        with staged(state) as folder:
            write_authority(folder, Authority(_SERVER.name, key, certificate), passphrase)
            folder.rename(state.next_server_ca)
            sync_folder(state.ca)
        return certificate


def load_next_server(state: StateDir, passphrase: bytes) -> Authority:
    """Load the ``server`` CA that is published and not in use yet; errors as a CA's."""
    return load_authority_from(state.next_server_ca, _SERVER.name, passphrase)


def switch_server(state: StateDir) -> None:
    """Put the next ``server`` CA in the place of the present one, which is published no more.

    Raises:
        Refused: there is no next one.
        EnvironmentProblem: the folder cannot be written.
    """
    with _moving(state):
        if not state.next_server_ca.exists():
            raise Refused(
                "no server CA is being rolled over: begin with `handfast ca rollover server`"
            )
        succeed(state, _SERVER.name, state.next_server_ca)


def begin_root_rollover(
    state: StateDir,
    passphrase: bytes,
    *,
    root: RootKeeping | None = None,
    on_made: Callable[[], None] = lambda: None,
) -> x509.Certificate:
    """Make a new root, which signs CAs from now on; the old one stays published beside it.

    Args:
        state: the gateway's folder.
        passphrase: of the CA keys.
        root: where the root's key is kept, if not in the state folder; the new one goes there too.
        on_made: told when the key is there, which takes the longest.

    Raises:
        Refused: a rollover is under way, or a passphrase is wrong.
        EnvironmentProblem: the old key is not there, or a folder cannot be written.
    """
    with _moving(state):
        if state.old_root.exists():
            raise Refused("a root is being rolled over already: see `handfast ca rollover status`")
        old = load_root(state, passphrase, root)
        key = generate_key(ROOT)
        on_made()
        now = datetime.now(UTC)
        new = Authority(ROOT.name, key, certify_authority(ROOT, key, None, now))
        end = old.certificate.not_valid_after_utc
        links = {
            state.new_with_old.name: certify_authority(ROOT, key, old, now),
            state.old_with_new.name: certify_authority(ROOT, old.key, new, now, until=end),
        }
        with staged(state) as folder:
            if root is not None:
                save_key(root.key_of(new.certificate), key, root.passphrase)
            write_authority(folder, new, passphrase if root is None else None)
            for name, link in links.items():
                write_atomically(folder / name, link.public_bytes(Encoding.DER))
            succeed(state, ROOT.name, folder)
        return new.certificate


def retire_old_root(state: StateDir) -> None:
    """Publish the old root no more; its folder is kept as ``root-retired``.

    Raises:
        Refused: no root is being rolled over.
        EnvironmentProblem: the folder cannot be written.
    """
    with _moving(state):
        if not state.old_root.exists():
            raise Refused("no root is being rolled over: begin with `handfast ca rollover root`")
        retired = state.ca / "root-retired"
        shutil.rmtree(retired, ignore_errors=True)
        state.old_root.rename(retired)
        sync_folder(state.ca)


@contextmanager
def _moving(state: StateDir) -> Iterator[None]:
    """Have the CAs to oneself; what the disk has against it is said with its folder."""
    load_certificates(state)  # there are some, and what a power cut left is finished
    try:
        with exclusive(state):
            yield
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write the CAs into {error.filename or state.ca}: {error.strerror}"
        ) from error
